"""``espdl-quantize check``: every fault of a contract that can be known early, in one go."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import AsJson, ContractPath, ProgressJson
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.cli.failing import fail
from espdl_quantize.cli.terminal import escape, say
from espdl_quantize.core import SHELL, Finding, FindingKind, dumps


def check(
    *,
    contract: ContractPath,
    no_score: Annotated[
        bool, typer.Option("--no-score", help="Do not call evaluate() on the float model.")
    ] = False,
    progress_json: ProgressJson = None,
    as_json: AsJson = False,
) -> None:
    """Check a contract: its form, data, model and evaluation; all faults that can be seen at once.

    The score may take long; --no-score leaves it out.
    """
    from espdl_quantize.gate import STAGES, GateContext, GateOptions, examine
    from espdl_quantize.iteration import captured
    from espdl_quantize.record.files import LOG

    path, progress_lines = whole(contract), whole_if_given(progress_json)
    with (
        shown(progress_lines, as_json=as_json) as progress,
        tempfile.TemporaryDirectory(prefix="espdl-quantize-") as scratch,
        captured(Path(scratch) / LOG),
    ):
        options = GateOptions(score=not no_score)
        report = examine(GateContext(path, Path(scratch), options, progress), STAGES)
    if report.error is not None:
        if not as_json:
            _print_findings([each for each in report.findings if not each.is_fault])
        beside = report.to_json(SHELL)
        fail(
            report.error,
            as_json=as_json,
            faults=report.of_kind(FindingKind.FAULT),
            beside=beside,
        )
    if as_json:
        print(dumps({"ok": True, **report.to_json(SHELL)}), end="")
        return
    for key, value in report.facts.items():
        say(f"{key.replace('_', ' ')}: {value}")
    _print_findings(report.findings)
    print("the contract holds" + ("; evaluate() was not called" if no_score else ""))


def _print_findings(findings: Sequence[Finding]) -> None:
    if not findings:
        return
    table = Table()
    # A name that is cut off cannot be looked up.
    for column in ("", "where", "what was found", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in sorted(findings, key=lambda each: each.kind != FindingKind.WARNING):
        cells = (finding.kind, finding.subject, finding.message, finding.hint)
        table.add_row(*map(escape, cells))
    Console().print(table)
