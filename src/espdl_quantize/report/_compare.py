"""Compares the iterations of an output folder, says what is next, and ends the search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.core import EXIT_OK, EXIT_REFUSED, OutputFolderError, to_jsonable, write_json
from espdl_quantize.record import History, LazyEvidence, is_foreign_comparison, read_history
from espdl_quantize.report._best_folder import free_name, write_best
from espdl_quantize.report._comparison import build_comparison
from espdl_quantize.report._engine import engine_warnings
from espdl_quantize.report._final_report import render_report, write_report
from espdl_quantize.report._finalize import FinalizePlan, RunStop, plan_finalize
from espdl_quantize.report._html import render_html, write_html
from espdl_quantize.report._lines import summary_lines
from espdl_quantize.report._next_setting import why_none, write_next_setting
from espdl_quantize.report._op_names import unknown_op_violations
from espdl_quantize.search import (
    Decision,
    Proposal,
    SearchOptions,
    SearchState,
    Violation,
    decide,
    lint_setting,
)
from espdl_quantize.setting import Setting


@dataclass(frozen=True)
class CompareResult:
    """What one comparison found and did.

    Attributes:
        exit_code: 0, or 1 where finalizing was refused, or no next setting is there to write.
        comparison: the content of comparison.json.
        lines: for the terminal, without control characters.
        state: what the next step was decided on.
        decision: the next step.
        plan: what was asked for, and why it was refused.
        best_folder: best/, where this call wrote it.
        report: final_report.md, where this call wrote it.
        html: report.html, where this call wrote it.
    """

    exit_code: int
    comparison: dict[str, Any]
    lines: tuple[str, ...]
    state: SearchState
    decision: Decision
    plan: FinalizePlan
    best_folder: Path | None = None
    report: Path | None = None
    html: Path | None = None

    @property
    def history(self) -> History:
        """The iterations."""
        return self.state.history


@dataclass(frozen=True)
class Standing:
    """Where a search stands.

    Attributes:
        comparison: what comparison.json would say.
        state: what the next step was decided on.
        decision: the next step.
    """

    comparison: dict[str, Any]
    state: SearchState
    decision: Decision

    @property
    def history(self) -> History:
        """The iterations."""
        return self.state.history


def look(outputs: Path, options: SearchOptions | None = None) -> Standing:
    """Rank the iterations and decide the next step; nothing is written.

    Raises:
        OutputFolderError: the folder cannot be read.
    """
    history = read_history(Path(outputs))
    state = SearchState.of(history, LazyEvidence(history), options)
    decision = decide(state)
    warnings = [*(warning.text for warning in history.warnings), *engine_warnings(history)]
    comparison = build_comparison(state.by_metric, decision, FinalizePlan(), warnings)
    return Standing(to_jsonable(comparison), state, decision)


def compare(
    outputs: Path,
    *,
    finalize: bool = False,
    force: bool = False,
    force_finalize: bool = False,
    write_best: bool = False,
    write_next: Path | None = None,
    run_stop: RunStop | None = None,
    options: SearchOptions | None = None,
) -> CompareResult:
    """Rank the iterations, decide the next step, and write comparison.json.

    Args:
        outputs: the folder that holds iter_0.
        finalize: write best/, final_report.md and report.html; refused in phase 5.
        force: overwrite a report that lost its marker line.
        force_finalize: finalize in phase 5, too.
        write_best: write best/ alone.
        write_next: write the next setting to this file, where there is one.
        run_stop: why an automatic run ends the search here.
        options: as for :func:`espdl_quantize.search.decide`.

    Raises:
        OutputFolderError: the folder cannot be read or written.
        EspdlQuantizeError: there is no place for the next setting.
    """
    outputs = Path(outputs)
    history = read_history(outputs)
    state = SearchState.of(history, LazyEvidence(history), options)
    decision, judged = decide(state), state.by_metric
    plan = plan_finalize(
        history,
        decision,
        finalize=finalize,
        force_finalize=force_finalize,
        write_best=write_best,
        run_stop=run_stop,
    )
    done, written = _finalize(judged, decision, plan, force)
    warnings = [*(warning.text for warning in history.warnings), *engine_warnings(history)]
    warnings += judged.best_evidence.problems
    comparison = to_jsonable(build_comparison(judged, decision, plan, warnings))
    done += _write_comparison(outputs, comparison)
    refused = bool(plan.refusal)
    if write_next is not None and isinstance(decision, Proposal):
        done += write_next_setting(write_next, history, decision.setting)
    elif write_next is not None:
        done.append(why_none(decision))
        refused = True
    return CompareResult(
        exit_code=EXIT_REFUSED if refused else EXIT_OK,
        comparison=comparison,
        lines=tuple(summary_lines(comparison, decision, plan, done)),
        state=state,
        decision=decision,
        plan=plan,
        best_folder=written.get("best"),
        report=written.get("report"),
        html=written.get("html"),
    )


def lint(outputs: Path, setting: Setting, options: SearchOptions | None = None) -> list[Violation]:
    """Check a hand-written setting against the discipline and the model before it runs.

    Raises:
        OutputFolderError: the folder cannot be read.
    """
    history = read_history(Path(outputs))
    evidence = LazyEvidence(history)
    broken = lint_setting(setting, SearchState.of(history, evidence, options))
    return [*unknown_op_violations(setting, history, evidence), *broken]


def _finalize(
    situation: SearchState, decision: Decision, plan: FinalizePlan, force: bool
) -> tuple[list[str], dict[str, Path]]:
    """Write what the plan says.

    Returns:
        What was done, in words; where best/ and the two reports are, if they were written.
    """
    best, outputs = situation.history.best, situation.history.folder
    if not plan.best or best is None:
        return [], {}
    done = write_best(outputs, best)
    done.append(f"wrote best/ from {best.name}")
    written = {"best": outputs / "best"}
    if plan.reason is None:
        return done, written
    report, html = outputs / "final_report.md", outputs / "report.html"
    if write_report(report, render_report(situation, decision, plan.reason), force):
        done.append("wrote final_report.md")
        written["report"] = report
    else:
        done.append(
            "kept final_report.md: its marker line is gone, so it was edited; --force overwrites it"
        )
    # A page is for looking at: nobody's edits are in it, so it is written anew every time.
    done += write_html(html, render_html(situation, decision, plan.reason))
    done.append("wrote report.html")
    written["html"] = html
    return done, written


def _write_comparison(outputs: Path, comparison: dict[str, Any]) -> list[str]:
    """Write comparison.json; one that another tool wrote is kept under another name."""
    path, notes = outputs / "comparison.json", []
    try:
        if is_foreign_comparison(path):
            aside = free_name(outputs, "comparison.json.foreign")
            path.rename(aside)
            notes.append(f"comparison.json was not written by this tool; it is now {aside.name}")
        write_json(path, comparison)
    except OSError as error:
        raise OutputFolderError(
            f"{path} cannot be written: {error.strerror or error}",
            "check the permissions and the free space of the output folder",
        ) from error
    return notes
