"""A stage that fails costs only those that need what it would have given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from espdl_quantize.core import (
    ContractError,
    EspdlQuantizeError,
    Finding,
    FindingKind,
    FindingsError,
    Hint,
    IterationError,
    Option,
)
from espdl_quantize.gate import GateContext, GateStage, examine


def give(context: GateContext) -> Iterator[Finding]:
    context.runs = True
    yield Finding(FindingKind.WARNING, "odd", "it", "it is odd", figures={"share": 0.5})


def refuse(context: GateContext) -> Iterator[Finding]:
    yield Finding(FindingKind.FAULT, "first", "it", "it is wrong", "change it")
    raise IterationError("it broke", Hint("pass ", Option.NO_SCORE.of(True)))


def stage(name: str, check: object, *needs: str) -> GateStage:
    return GateStage(name=name, subject=name, examine=check, needs=needs)  # type: ignore[arg-type]


def test_what_needs_nothing_of_a_failed_stage_runs(tmp_path: Path) -> None:
    stages = (
        stage("fails early", refuse),
        stage("needs more", give, "graph"),
        stage("gives", give),
        stage("takes", refuse, "runs"),
    )
    report = examine(GateContext(tmp_path / "user_quant.py", tmp_path), stages)
    assert report.skipped == ("needs more",)
    codes = [finding.code for finding in report.findings]
    assert codes == ["first", "fails_early", "odd", "first", "takes"]
    assert isinstance(report.error, FindingsError)
    assert report.error.exit_code == ContractError.exit_code


def test_one_error_stays_that_error(tmp_path: Path) -> None:
    def fail(context: GateContext) -> Iterator[Finding]:
        yield from ()
        raise IterationError("it broke")

    context = GateContext(tmp_path / "user_quant.py", tmp_path)
    report = examine(context, (stage("fails", fail), stage("gives", give)))
    assert type(report.error) is IterationError
    assert report.to_json()["warnings"] == ["it is odd"]
    assert examine(context, (stage("gives", give),)).error is None


def test_several_faults_cross_a_pipe_with_their_codes() -> None:
    findings = [
        Finding(FindingKind.FAULT, "a", "x", "wrong", Hint(Option.NO_SCORE.of(True)), {"n": 1}),
        Finding.of_error(IterationError("it broke", "fix it"), "b", "y"),
    ]
    error = FindingsError(findings)
    again = EspdlQuantizeError.from_json(error.to_json())
    assert isinstance(again, FindingsError)
    assert again.to_json() == error.to_json()
    assert again.exit_code == ContractError.exit_code
    assert error.reworded("other", "words").findings == error.findings


@pytest.mark.parametrize("form", [None, [], {}, {"kind": 1, "figures": 2, "hint_parts": 3}])
def test_a_damaged_finding_is_still_one(form: object) -> None:
    assert Finding.from_json(form).kind == FindingKind.FAULT
