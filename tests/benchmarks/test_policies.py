from pathlib import Path

import pytest

from benchmarks import record as recording
from benchmarks.policies import Trace, main
from espdl_quantize.tuning import record
from tests.tuning.fake_backend import FakeBackend
from tests.tuning.test_recorded import SETTINGS


def test_a_trace() -> None:
    trace = Trace((0.0, 0.5, 0.5, 0.9))
    assert (trace.reached(0.5), trace.reached(1.0)) == (2, None)
    assert (trace.after(2), trace.after(10)) == (0.5, 0.9)


def test_every_policy_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(FakeBackend(), SETTINGS, tmp_path / "made")
    table = str(tmp_path / "table.zip")
    recording.main(["--pack", str(tmp_path / "made"), "--table", table])
    assert capsys.readouterr().out.startswith("10 settings in ")
    main(["--table", table, "--seeds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("10 recorded settings, best known gain 0.2")
    for title, rows in (("after the levers, as in tune", lines[4:7]), ("alone", lines[10:13])):
        assert lines[lines.index(title) + 2 :][:3] == rows
        assert [line.split()[0] for line in rows] == ["evidence", "optuna", "random"]
    assert all("1/1" in line for line in lines[4:7])
