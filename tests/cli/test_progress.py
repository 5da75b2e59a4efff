import time

import pytest

from espdl_quantize.cli import _progress
from espdl_quantize.cli._progress import TerminalProgress


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, "quantize: "),
        (KeyboardInterrupt(), "quantize: interrupted after "),
        (ValueError(), "quantize: failed after "),
    ],
)
def test_a_stage_is_told_as_it_ended(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    told: str,
) -> None:
    monkeypatch.setattr(_progress, "_WORTH_A_LINE", 0.0)
    try:
        with TerminalProgress() as progress, progress.stage("quantize"):
            time.sleep(0.01)
            if error is not None:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    line = capfd.readouterr().err.strip()
    assert line.removeprefix(told).removesuffix(" s").replace(".", "").isdigit()
