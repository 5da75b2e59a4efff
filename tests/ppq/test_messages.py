"""Where esp-ppq's messages go: never to a stream that was closed since."""

import contextlib
import io
from pathlib import Path

import pytest
from esp_ppq.log import NaiveLogger

from espdl_quantize.ppq import check_installation


@pytest.fixture(autouse=True)
def in_use() -> None:
    check_installation()


def test_a_message_goes_to_the_output_of_its_moment() -> None:
    closed, later = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(closed):
        logger = NaiveLogger.get_logger("made under another output")
        logger.warning("early")
    closed_text = closed.getvalue()
    closed.close()
    with contextlib.redirect_stdout(later):
        logger.warning("late")
        logger.debug("too fine")
    assert "early" in closed_text
    assert later.getvalue().endswith("late\n")


def test_a_message_for_a_file_goes_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "esp-ppq.log"
    logger = NaiveLogger.get_logger("with a file")
    logger.register_handler(str(log))
    logger.error("both")
    logger.remove_handler(str(log))
    assert "both" in log.read_text()
    assert "both" in capsys.readouterr().out
