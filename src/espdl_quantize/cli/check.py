"""``espdl-quantize check``: every fault of a contract that can be known early, in one go."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import (
    AllowMismatch,
    AsJson,
    ContractPath,
    EspDlVersion,
    ProgressJson,
    Target,
)
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.cli.failing import fail
from espdl_quantize.cli.terminal import escape, say
from espdl_quantize.core import SHELL, Finding, FindingKind, dumps


def check(
    *,
    contract: ContractPath,
    target: Target = None,
    no_score: Annotated[
        bool, typer.Option("--no-score", help="Do not call evaluate() on the float model.")
    ] = False,
    allow_mismatch: AllowMismatch = False,
    esp_dl_version: EspDlVersion = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List each op that was rewritten, and why.")
    ] = False,
    progress_json: ProgressJson = None,
    as_json: AsJson = False,
) -> None:
    """Check a contract: its form, data, model and evaluation; all faults that can be seen at once.

    The score may take long; --no-score leaves it out.
    """
    from espdl_quantize.contract import Overrides
    from espdl_quantize.gate import STAGES, GateContext, GateOptions, examine
    from espdl_quantize.iteration import captured
    from espdl_quantize.record import FLOAT_MISMATCH
    from espdl_quantize.record.files import LOG

    path, progress_lines = whole(contract), whole_if_given(progress_json)
    with (
        shown(progress_lines, as_json=as_json) as progress,
        tempfile.TemporaryDirectory(prefix="espdl-quantize-") as scratch,
        captured(Path(scratch) / LOG),
    ):
        options = GateOptions(
            score=not no_score,
            allow_mismatch=allow_mismatch,
            overrides=Overrides(target=target, esp_dl_version=esp_dl_version),
        )
        report = examine(GateContext(path, Path(scratch), options, progress), STAGES)
    if report.error is not None:
        if not as_json:
            beside_faults = [each for each in report.findings if not each.is_fault]
            _print_findings(beside_faults, verbose=verbose)
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
        say(f"{key.replace('_', ' ')}: {_shown(value)}")
    _print_findings(report.findings, verbose=verbose)
    verdict = ["the contract holds"]
    if no_score:
        verdict.append("evaluate() was not called")
    if FLOAT_MISMATCH in report.facts:
        verdict.append("what is scored is another model than yours")
    print("; ".join(verdict))


def _shown(value: object) -> object:
    """Return a fact as it is printed; a dict counts something."""
    if isinstance(value, dict):
        return ", ".join(f"{name} ({count})" for name, count in value.items())
    if isinstance(value, list):
        nested = any(isinstance(each, list) for each in value)
        return (", " if nested else " x ").join(str(_shown(each)) for each in value)
    return f"{value:.3g}" if isinstance(value, float) and 0 < value < 1e-3 else value


def _print_findings(findings: Sequence[Finding], *, verbose: bool) -> None:
    if not verbose:
        findings = [each for each in findings if each.code != "rewritten"]
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
