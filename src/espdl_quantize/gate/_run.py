"""Runs the stages of the gate, and says what came of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from espdl_quantize.contract import located
from espdl_quantize.core import (
    PLAIN,
    EspdlQuantizeError,
    Finding,
    FindingKind,
    FindingsError,
    Json,
    Spelling,
    error_of,
)
from espdl_quantize.gate._context import GateContext


@dataclass(frozen=True, kw_only=True)
class GateStage:
    """One stage.

    Attributes:
        name: shown while it runs, and of its findings that are errors the ``code``, with
            underscores.
        subject: of its findings that are errors: what it looks at.
        examine: yields findings, and sets fields of the context.
        needs: fields of the context without which it cannot run.
    """

    name: str
    subject: str
    examine: Callable[[GateContext], Iterator[Finding]]
    needs: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The code of an error that it raises."""
        return self.name.replace(" ", "_")


@dataclass(frozen=True)
class GateReport:
    """What an examination found.

    Attributes:
        findings: in the order of the stages.
        facts: of the contract, by name, as far as they are known.
        skipped: the stages that could not run.
    """

    findings: tuple[Finding, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    @property
    def error(self) -> EspdlQuantizeError | None:
        """What the faults come to; None where the contract holds."""
        return error_of(self.findings)

    def of_kind(self, kind: FindingKind) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def to_json(self, spelling: Spelling = PLAIN) -> Json:
        """Return facts and findings as plain data.

        Args:
            spelling: of the hints' texts.
        """
        warnings = [finding.message for finding in self.of_kind(FindingKind.WARNING)]
        return {
            **self.facts,
            # Where earlier versions had them.
            **({"warnings": warnings} if warnings else {}),
            "findings": [finding.to_json(spelling) for finding in self.findings],
        }


def examine(context: GateContext, stages: Sequence[GateStage]) -> GateReport:
    """Run every stage that can run.

    What the contract's code and esp-ppq print is the caller's to catch.

    Args:
        context: of the contract; the stages fill it.
        stages: in their order.
    """
    findings: list[Finding] = []
    skipped: list[str] = []
    with closing(context):
        for stage in stages:
            _run_stage(stage, context, findings, skipped)
    return GateReport(tuple(findings), dict(context.facts), tuple(skipped))


def _run_stage(
    stage: GateStage, context: GateContext, findings: list[Finding], skipped: list[str]
) -> None:
    if not all(map(context.has, stage.needs)):
        skipped.append(stage.name)
        return
    try:
        with context.progress.stage(stage.name):
            findings += stage.examine(context)
    except FindingsError as error:
        findings += error.findings
    except EspdlQuantizeError as error:
        cause = located(error, context.contract) if context.has("contract") else error
        findings.append(Finding.of_error(cause, stage.code, stage.subject))
    except Exception as error:
        # An examination that fails says nothing against the contract.
        traceback.print_exc()
        findings.append(
            Finding(
                FindingKind.WARNING,
                "stage_failed",
                stage.subject,
                f"the check could not {stage.name}: {type(error).__name__}: {error}",
                "this is a fault of espdl-quantize: please report it; all other stages have run",
            )
        )
