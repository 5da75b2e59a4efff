import json
import time
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.cli import _progress
from espdl_quantize.cli._progress import TerminalProgress, shown
from espdl_quantize.core import NoProgress, OutputFolderError
from espdl_quantize.setting import baseline
from espdl_quantize.tuning import RecordedBackend
from tests.cli.conftest import Command

RECORDED = Path(__file__).parents[2] / "benchmarks/recorded/fashion_mnist_esp32s3.zip"


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


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_tell_every_stage_and_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_TICK", 0.01)
    path = tmp_path / "progress.jsonl"
    with shown(path, as_json=False) as progress, progress.stage("quantize"):
        progress.update(1, 4)
        deadline = time.monotonic() + 10
        while '"at"' not in path.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ValueError), progress.stage("calibrate"):
            raise ValueError
    told = lines(path)
    stages = [(one["stage"], one["depth"], one["status"]) for one in told if "status" in one]
    assert stages == [
        ("quantize", 0, "begun"),
        ("calibrate", 1, "begun"),
        ("calibrate", 1, "failed"),
        ("quantize", 0, "done"),
    ]
    at = next(one for one in told if one["event"] == "at")
    assert (at["stage"], at["fraction"]) == ("quantize", 0.25)
    assert capfd.readouterr() == ("", "")


def test_lines_that_cannot_be_written_are_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(OutputFolderError, match="nowhere"):
        shown(tmp_path / "nowhere/progress.jsonl", as_json=True)


def test_a_replayed_search_is_told_line_by_line(command: Command, tmp_path: Path) -> None:
    done = command("tune", "--recorded", RECORDED, "--iterations", 3, "--progress-json", "p.jsonl")
    assert done.returncode == 0
    assert done.stderr == ""
    told = lines(tmp_path / "p.jsonl")
    started = [one for one in told if one["event"] == "iteration_started"]
    ended = [one for one in told if one["event"] == "iteration_ended"]
    assert [(one["iteration"], one["number"], one["of"]) for one in started] == [
        (0, 1, 3),
        (1, 2, 3),
        (2, 3, 3),
    ]
    index = json.loads((tmp_path / "outputs/iter_1/iteration_index.json").read_text())
    assert ended[1]["value"] == index["primary_value"]
    assert (ended[1]["outcome"], ended[1]["is_best"]) == ("new best", True)
    # The time that the recorded iteration took, not that of its replay.
    assert started[1]["seconds_left"] > 2


def test_a_replay_takes_its_pace_and_its_budget_from_the_recorded_times(
    command: Command, tmp_path: Path
) -> None:
    done = command("tune", "--recorded", RECORDED, "--time", "20s", "--json")
    assert json.loads(done.stdout)["stop"]["category"] == "budget_reached"
    assert json.loads(done.stdout)["iterations_run"] < 5
    refused = command("tune", "--recorded", RECORDED, "--pace", "0", "--json")
    assert "the pace is 0" in json.loads(refused.stdout)["error"]["message"]
    for arguments in (["tune"], ["tune", "x.py", "--recorded", RECORDED]):
        assert command(*arguments).returncode == 2


def test_the_pace_of_a_replay_is_kept(tmp_path: Path) -> None:
    fast, slow = RecordedBackend(RECORDED), RecordedBackend(RECORDED, pace=4)
    for name, backend, least in (("fast", fast, 0.0), ("slow", slow, 0.25)):
        began = time.monotonic()
        record = backend.run(baseline(), tmp_path / name / "iter_0", NoProgress())
        assert time.monotonic() - began >= least * (record.elapsed_seconds or 0.0)
    assert fast.clock() == slow.clock()
