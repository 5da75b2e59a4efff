"""The last line of ``verify`` says what the file is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from espdl_quantize.chip import ChipCheck, Legality
from espdl_quantize.cli.verify import _print
from espdl_quantize.iteration import Verification


@pytest.mark.parametrize(
    ("same", "problem", "last"),
    [
        (True, "", "verified: the file is what its setting makes, obeys the rules of esp32s3"),
        (False, "", "not verified: its setting makes another file now"),
        (True, "odd", "not verified: see the warnings above, 1 in all"),
    ],
)
def test_the_last_line_is_the_result(
    same: bool,
    problem: str,
    last: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    check = ChipCheck(Legality("esp32s3", None), None, problem)
    _print(Verification(Path("model.espdl"), same, check))
    assert capsys.readouterr().out.splitlines()[-1] == last
