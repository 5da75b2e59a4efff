from pathlib import Path

import pytest

from benchmarks.policies import Trace, main
from espdl_quantize.tuning import pack, record
from tests.tuning.fake_backend import FakeBackend
from tests.tuning.test_recorded import SETTINGS


def test_a_trace() -> None:
    trace = Trace((0.0, 0.5, 0.5, 0.9))
    assert (trace.reached(0.5), trace.reached(1.0)) == (2, None)
    assert (trace.after(2), trace.after(10)) == (0.5, 0.9)


def test_every_policy_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(FakeBackend(), SETTINGS, tmp_path / "made")
    pack([tmp_path / "made"], tmp_path / "table.zip")
    main(["--table", str(tmp_path / "table.zip"), "--seeds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("10 recorded settings, best known gain 0.2")
    for title, rows in (("after the levers, as in tune", lines[4:7]), ("alone", lines[10:13])):
        assert lines[lines.index(title) + 2 :][:3] == rows
        assert [line.split()[0] for line in rows] == ["evidence", "optuna", "random"]
    assert all("1/1" in line for line in lines[4:7])
