"""Compares the iterations of an output folder, says what is next, and ends the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from espdl_quantize.core import (
    EXIT_OK,
    EXIT_REFUSED,
    Command,
    EspdlQuantizeError,
    Hint,
    Option,
    OutputFolderError,
    SettingError,
    write_json,
)
from espdl_quantize.record import (
    Evidence,
    FolderComparison,
    History,
    LazyEvidence,
    is_foreign_comparison,
    read_comparison,
    read_history,
    ready_to_save,
    write_comparison,
)
from espdl_quantize.record.comparison import COMPARISON
from espdl_quantize.record.files import BEST, FRONT, HTML_REPORT, REPORT, iteration_name
from espdl_quantize.report._best_folder import free_name, write_best, write_front
from espdl_quantize.report._blocks import Step, make_step
from espdl_quantize.report._commands import next_command
from espdl_quantize.report._comparison import build_comparison
from espdl_quantize.report._engine import engine_warnings
from espdl_quantize.report._final_report import markdown_report, write_report
from espdl_quantize.report._finalize import (
    FinalizePlan,
    FinalizeReason,
    RunStop,
    plan_finalize,
)
from espdl_quantize.report._html import html_page, write_html
from espdl_quantize.report._render import terminal_lines
from espdl_quantize.search import (
    Decision,
    Proposal,
    SearchOptions,
    SearchState,
    Stop,
    Violation,
    decide,
    lint_setting,
)
from espdl_quantize.setting import Setting, load_setting, unknown_ops


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
    comparison: FolderComparison
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

    comparison: FolderComparison
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
    return Standing(comparison, state, decision)


def compare(
    outputs: Path,
    *,
    finalize: bool = False,
    force: bool = False,
    force_finalize: bool = False,
    write_best: bool = False,
    write_next: Path | None = None,
    run_stop: RunStop | None = None,
    page: bool = False,
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
        page: write report.html, too, where the search goes on.
        options: as for :func:`espdl_quantize.search.decide`.

    Raises:
        OutputFolderError: the folder cannot be read or written.
        EspdlQuantizeError: there is no place for the next setting.
    """
    outputs = Path(outputs)
    history = read_history(outputs)
    state = SearchState.of(history, LazyEvidence(history), options)
    decision, judged = decide(state), state.by_metric
    history = state.history
    plan = plan_finalize(
        history,
        decision,
        finalize=finalize,
        force_finalize=force_finalize,
        write_best=write_best,
        run_stop=run_stop,
    )
    step = make_step(judged, decision, plan)
    done, written = _finalize(step, force=force)
    if page and "html" not in written:
        done += write_html(outputs / HTML_REPORT, html_page(step))
        written["html"] = outputs / HTML_REPORT
    done += _write_comparison(outputs, step.comparison)
    refused = bool(plan.refusal)
    if write_next is not None and isinstance(decision, Proposal):
        done += _write_next_setting(write_next, history, decision.setting)
    elif write_next is not None:
        done.append(_why_none(decision))
        refused = True
    return CompareResult(
        exit_code=EXIT_REFUSED if refused else EXIT_OK,
        comparison=step.comparison,
        lines=tuple(terminal_lines(replace(step, done=tuple(done)))),
        state=state,
        decision=decision,
        plan=plan,
        best_folder=written.get("best"),
        report=written.get("report"),
        html=written.get("html"),
    )


@dataclass(frozen=True)
class Rendered:
    """The reports of a folder, rendered again.

    Attributes:
        html: report.html.
        report: final_report.md; None where the search has not ended, or an edited one was kept.
        notes: what the reader should know.
    """

    html: Path
    report: Path | None = None
    notes: tuple[str, ...] = ()


def render_again(outputs: Path, *, force: bool = False) -> Rendered:
    """Write report.html of what is in a folder, and final_report.md where its search has ended.

    Args:
        outputs: the folder that holds iter_0.
        force: overwrite a report that lost its marker line.

    Raises:
        OutputFolderError: the folder cannot be read or written, or holds no iteration.
    """
    outputs = Path(outputs)
    standing = look(outputs)
    history = standing.history
    if not (history.iterations or history.excluded):
        raise OutputFolderError(
            f"{outputs} holds no iteration",
            Hint("give the folder that holds iter_0, or make one with ", Command.TUNE),
        )
    step = _step_again(outputs, standing)
    reason = step.reason
    notes = list(write_html(outputs / HTML_REPORT, html_page(step)))
    report = None
    if reason is not None and history.best is not None:
        path = outputs / REPORT
        if write_report(path, markdown_report(step), force=force):
            report = path
        else:
            notes.append(f"kept {REPORT}: its marker line is gone, so it was edited")
    return Rendered(outputs / HTML_REPORT, report, tuple(notes))


def page_of(outputs: Path, *, live: str = "") -> str:
    """Return the page of a folder as it is now; nothing is written.

    Args:
        outputs: the folder that holds iter_0, or will hold it.
        live: of a page that renews itself, the version of the folder.
    """
    try:
        standing = look(outputs)
    except OutputFolderError:
        history = History((), outputs)
        state = SearchState.of(history, LazyEvidence(history))
        standing = Standing(
            build_comparison(state, decide(state), FinalizePlan(), []), state, decide(state)
        )
    return html_page(_step_again(outputs, standing), live=live)


def _step_again(outputs: Path, standing: Standing) -> Step:
    history, decision = standing.history, standing.decision
    reason = _last_reason(outputs, history)
    if reason is None and history.best is not None:
        # A search that ends by itself has ended for this reader, too.
        reason = plan_finalize(history, decision).reason
    return make_step(standing.state.by_metric, decision, FinalizePlan(reason=reason))


def _last_reason(outputs: Path, history: History) -> FinalizeReason | None:
    """Return why the search was ended, where nothing was run since."""
    before = read_comparison(outputs)
    if before is None or before.next_step_hint.finalize_reason is None:
        return None
    ids = [each.iteration_id for each in before.iterations]
    if ids != [record.id for record in history.iterations]:
        return None
    return FinalizeReason.from_entry(before.next_step_hint.finalize_reason)


def lint(outputs: Path, setting: Setting, options: SearchOptions | None = None) -> list[Violation]:
    """Check a hand-written setting against the discipline and the model before it runs.

    Raises:
        OutputFolderError: the folder cannot be read.
    """
    history = read_history(Path(outputs))
    evidence = LazyEvidence(history)
    broken = lint_setting(setting, SearchState.of(history, evidence, options))
    return [*_unknown_op_violations(setting, history, evidence), *broken]


def _unknown_op_violations(
    setting: Setting, history: History, evidence: Mapping[int, Evidence]
) -> list[Violation]:
    """Compare the names with best's simplified_ops.json, else with the latest that is there.

    All iterations of a folder are of one model. Without any, nothing can be told.
    """
    records = [history.best] if history.best is not None else []
    records += reversed(history.iterations)
    known = next((record for record in records if evidence[record.id].ops), None)
    if known is None:
        return []
    names = [op.name for op in evidence[known.id].ops]
    return [
        Violation(
            "unknown-op",
            known.id,
            f"{unknown.field} names {unknown.op!r}, which the model does not have",
            f"nearest: {', '.join(unknown.nearest)}"
            if unknown.nearest
            else f"{known.name}/simplified_ops.json has all names",
        )
        for unknown in unknown_ops(setting, names)
    ]


def _finalize(step: Step, *, force: bool) -> tuple[list[str], dict[str, Path]]:
    """Write what the plan says.

    Returns:
        What was done, in words; where best/ and the two reports are, if they were written.
    """
    best, outputs, plan = step.best, step.history.folder, step.plan
    if not plan.best or best is None:
        return [], {}
    done = write_best(outputs, best)
    done.append(f"wrote best/ from {best.name}")
    others = [record for record in step.history.front if record is not best]
    done += write_front(outputs, others)
    if others:
        done.append(f"wrote {FRONT}/: {', '.join(record.name for record in others)}")
    written = {"best": outputs / BEST}
    if plan.reason is None:
        return done, written
    report, html = outputs / REPORT, outputs / HTML_REPORT
    if write_report(report, markdown_report(step), force=force):
        done.append("wrote final_report.md")
        written["report"] = report
    else:
        done.append(
            Hint(
                "kept final_report.md: its marker line is gone, so it was edited; ",
                Option.FORCE.of(True),
                " overwrites it",
            )
        )
    # A page is for looking at: nobody's edits are in it, so it is written anew every time.
    done += write_html(html, html_page(step))
    done.append("wrote report.html")
    written["html"] = html
    return done, written


def _write_comparison(outputs: Path, comparison: FolderComparison) -> list[str]:
    """Write comparison.json; one that another tool wrote is kept under another name."""
    path, notes = outputs / COMPARISON, []
    try:
        if is_foreign_comparison(path):
            kept = free_name(outputs, f"{COMPARISON}.foreign")
            path.rename(kept)
            notes.append(f"{COMPARISON} was not written by this tool; it is now {kept.name}")
        write_comparison(outputs, comparison)
    except OSError as error:
        raise OutputFolderError(
            f"{path} cannot be written: {error.strerror or error}",
            "check the permissions and the free space of the output folder",
        ) from error
    return notes


def _write_next_setting(path: Path, history: History, setting: Setting) -> list[str]:
    """Write the setting that the search asks for; an older setting in its place is replaced.

    Returns:
        What was done, and the command that runs it.

    Raises:
        EspdlQuantizeError: ``path`` holds something else.
    """
    if path.exists() and not _is_setting(path):
        raise EspdlQuantizeError(
            f"{path} exists and holds no setting", "give another path; it is not overwritten"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, ready_to_save(setting))
    number = setting.iteration_id
    command = next_command(history, number, path)
    return [f"wrote {path}: the setting of {iteration_name(number)}", f"to run it: {command}"]


def _why_none(decision: Decision) -> str:
    """Say why a phase has no ready setting, and what to do."""
    if isinstance(decision, Stop):
        return "no next setting was written: the search is over; see best/setting.json"
    return Hint(
        f"no next setting was written: {decision.phase} has none; write one by hand from what is "
        "said above, ",
        Command.LINT,
        " checks it",
    )


def _is_setting(path: Path) -> bool:
    try:
        load_setting(path)
    except SettingError:
        return False
    return True
