"""Runs a search with any backend, with a line that says where it stands, and shows its result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from espdl_quantize.cli._paths import whole
from espdl_quantize.cli._progress import ProgressLines, TerminalProgress, shown
from espdl_quantize.cli.tables import fitted_table
from espdl_quantize.cli.terminal import printable
from espdl_quantize.cli.watch import watched
from espdl_quantize.core import Hint, InterruptedSearchError, Progress, describe_seconds, dumps
from espdl_quantize.record import NO_LOSS, History, Iteration
from espdl_quantize.record.comparison import ComparedIteration
from espdl_quantize.record.files import BEST, HTML_REPORT, REPORT
from espdl_quantize.report import (
    certainty_lines,
    cost_lines,
    delta_of,
    final_lines,
    gap_words,
    outcome_of,
    why_best,
)
from espdl_quantize.search.plain_names import explain_triggers, phase_name, proposal_name
from espdl_quantize.search.policies import Policy
from espdl_quantize.tuning import (
    Backend,
    Observer,
    Plan,
    SearchInterrupt,
    Status,
    TuneOptions,
    TuneResult,
    tune,
)


def search_and_print(
    backend: Backend,
    policy: Policy,
    outputs: Path,
    options: TuneOptions,
    *,
    as_json: bool,
    progress_lines: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    open_page: bool = False,
) -> None:
    """Search with any backend; with ``as_json``, print one JSON object and nothing else.

    With ``open_page`` a browser shows the report, renewed while the search runs.

    Raises:
        InterruptedSearchError: the user interrupted it.
    """
    place = whole(outputs)
    try:
        with (
            watched(place) if open_page else contextlib.nullcontext(""),
            shown(progress_lines, as_json=as_json) as progress,
        ):
            result = tune(
                backend,
                place,
                options,
                policy=policy,
                observer=_observer(progress),
                progress=progress,
                clock=clock,
            )
    except KeyboardInterrupt as error:
        spent = error.spent.describe() if isinstance(error, SearchInterrupt) else Hint()
        best = outputs / "best"
        kept = "nothing has a score yet"
        if (place / "best").is_dir():
            kept = f"the best model so far is in {best}"
        raise InterruptedSearchError(
            f"interrupted; {kept}",
            Hint(
                "run the same command again: it goes on where it stopped",
                *((", with a budget anew. ", spent) if spent else ()),
            ),
        ) from None
    if as_json:
        print(dumps(_summary(result)), end="")
    else:
        _print_result(result, outputs)


def _observer(progress: Progress) -> Observer:
    if isinstance(progress, ProgressLines):
        return _LineWriter(progress)
    return _Watcher(progress) if isinstance(progress, TerminalProgress) else Observer()


class _Watcher(Observer):
    """Puts what happens onto the terminal."""

    def __init__(self, progress: TerminalProgress) -> None:
        self._progress = progress
        self._has_planned = False

    def planned(self, plan: Plan) -> None:
        """Print the plan."""
        head = "expected now:" if self._has_planned else "expected:"
        self._has_planned = True
        self._progress.say("\n".join([head, *plan.lines()]), "dim")

    def iteration_started(self, status: Status) -> None:
        """Say where the search stands."""
        self._progress.header = describe_status(status)
        self._progress.say(f"iter_{status.proposal.setting.iteration_id}: {self._progress.header}")

    def iteration_ended(self, row: Iteration, history: History) -> None:
        """Say what came of it."""
        if row.failure is not None:
            self._progress.say(f"{row.name} failed: {row.failure}", "red")
            return
        if row.is_without_effect:
            self._progress.say(f"{row.name} had no effect: its graph is that of iter_{row.same_as}")
            return
        delta, outcome = delta_of(history, row), outcome_of(history, row)
        change = "" if delta is None else f" ({delta:+.4g} against the best before: {outcome})"
        noise = row.signals.noise_signal if row.signals is not None else None
        change += "" if noise is None else f", output noise {noise:.3g}"
        is_best = history.best is row
        why = why_best(history, row)
        news = f"; best now: {why}" if why else ""
        style = "bold green" if is_best else ""
        self._progress.say(f"{row.name}: {history.metric} {row.value:.6g}{change}{news}", style)

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._progress.say(f"note: {explain_triggers(text)}", "yellow")


class _LineWriter(Observer):
    """Appends what happens to the lines of progress."""

    def __init__(self, lines: ProgressLines) -> None:
        self._lines = lines

    def planned(self, plan: Plan) -> None:
        """Append the plan."""
        self._lines.event("plan", lines=plan.lines())

    def iteration_started(self, status: Status) -> None:
        """Append where the search stands."""
        best, estimate = status.history.best, status.estimate
        self._lines.event(
            "iteration_started",
            iteration=status.proposal.setting.iteration_id,
            number=status.number,
            of=status.budget.iterations,
            phase=status.proposal.phase,
            what=status.proposal.pattern,
            best_iteration=None if best is None else best.id,
            best_value=None if best is None else best.value,
            gap_closed=status.history.gap_closed,
            no_gap=status.history.no_gap,
            estimated_seconds=None if estimate is None else estimate.seconds,
            seconds_left=_seconds_left(status),
            text=describe_status(status),
        )

    def iteration_ended(self, row: Iteration, history: History) -> None:
        """Append what came of it."""
        self._lines.event(
            "iteration_ended",
            iteration=row.id,
            value=row.value,
            delta=delta_of(history, row),
            outcome=outcome_of(history, row),
            is_best=history.best is row,
            failure=None if row.failure is None else str(row.failure),
        )

    def notice(self, text: str) -> None:
        """Append it."""
        self._lines.event("notice", text=text)


def _seconds_left(status: Status) -> float | None:
    """Return the rest of the time budget, else what the rest of the iterations may take."""
    budget = status.budget
    if status.seconds_left is not None:
        return max(status.seconds_left, 0.0)
    if budget.iterations is None or status.estimate is None:
        return None
    return status.estimate.seconds * (budget.iterations - status.number + 1)


def describe_status(status: Status) -> str:
    """Write phase, move, best, gap closed, place in the budget and the time left."""
    history, budget = status.history, status.budget
    of = f" of {budget.iterations}" if budget.iterations is not None else ""
    parts = [phase_name(status.proposal.phase), proposal_name(status.proposal)]
    best = history.best
    if best is not None:
        parts.append(f"best {best.value:.6g} ({best.name})")
    if history.gap_closed is not None:
        parts.append(f"{gap_words(history.gap_closed)} of the drop is back")
    elif history.no_gap == NO_LOSS:
        parts.append(NO_LOSS)
    repeated = status.proposal.is_repetition
    parts.append("does not count" if repeated else f"iteration {status.number}{of}")
    if status.estimate is not None:
        parts.append(f"takes {status.estimate}")
    left = _seconds_left(status)
    if left is not None:
        about = "" if status.seconds_left is not None else "about "
        parts.append(f"{about}{describe_seconds(left)} left")
    return " | ".join(parts)


def _summary(result: TuneResult) -> dict[str, Any]:
    history, best = result.history, result.history.best
    return {
        "stop": {"category": result.category, "detail": result.detail},
        "iterations_run": result.iterations_run,
        "iterations": len(history.iterations),
        "best_iteration": None if best is None else best.id,
        "primary_metric": history.metric,
        "best_value": None if best is None else best.value,
        "gap_closed": history.gap_closed,
        "no_gap": history.no_gap,
        "costs": cost_lines(history),
        "front": [record.id for record in history.front],
        "best": str((history.folder / "best").resolve()),
        "report": str((history.folder / REPORT).resolve()),
        "report_html": str((history.folder / HTML_REPORT).resolve()),
    }


_DROPPED = ("flash, KiB", "agrees", "RAM, KiB", "noise", "rank", "95 %", "ms", "slower on chip")
"""Columns that give way where a terminal is narrow, the first to go first."""


def result_table(result: TuneResult, width: int, star: str = "\u2605") -> Table:
    """Return a row per iteration, less the columns that are empty or that have no room.

    Args:
        result: of the search.
        width: characters of the terminal.
        star: what marks the best.
    """
    history, metric = result.history, result.history.metric or "metric"
    first = ("iter", "changed", metric, "95 %", "delta", "outcome")
    heads = (*first, "noise", "agrees", "rank", "ms", "RAM, KiB", "flash, KiB", "slower on chip")
    rows = []
    for record in result.comparison.comparison.iterations:
        value, delta = record.primary_value, record.delta_vs_prior_best
        interval = record.interval
        rows.append(
            (
                str(record.iteration_id),
                record.changed,
                record.status if value is None else f"{value:.6g}",
                "" if interval is None else f"{interval.low:.4g} to {interval.high:.4g}",
                "" if delta is None else f"{delta:+.4g}",
                record.outcome,
                *_signals(record),
                str(record.rank),
                *_costs(record),
                record.affects_inference_speed,
            )
        )
    best = None if history.best is None else history.best.id
    starred = [at for at, row in enumerate(rows) if row[0] == str(best)]
    title = f"{len(rows)} iteration{'' if len(rows) == 1 else 's'}; {star} marks the best"
    return fitted_table(
        heads, rows, width, droppable=_DROPPED, starred=starred, title=title, star=star
    )


def _print_result(result: TuneResult, outputs: Path) -> None:
    console, history = Console(highlight=False), result.history
    star = "\u2605" if console.encoding.startswith("utf") else "*"
    console.print(result_table(result, console.width, star))
    lines = []
    if result.iterations_run == 0:
        lines.append("nothing was run: the search in this folder has ended already")
    lines.append(f"stopped ({result.category}): {result.detail}")
    if history.best is not None:
        lines += [*certainty_lines(history), *final_lines(history), *cost_lines(history)]
    if result.category == "plateau":
        lines.append("the metric has stopped moving; --ignore-plateau goes on all the same")
    for line in lines:
        console.print(Text(printable(line)))
    # Paths are copied: no line break is put into them.
    console.print(Text(printable(f"model:  {outputs / BEST}")), soft_wrap=True)
    report = f"report: {outputs / HTML_REPORT} (as text: {REPORT})"
    console.print(Text(printable(report)), soft_wrap=True)
    console.print(Text(printable(summary_line(history)), "bold"))


def summary_line(history: History) -> str:
    """Say in one line what came of a search."""
    best = history.best
    count = len(history.iterations)
    tried = f"{count} iteration{'' if count == 1 else 's'}"
    tried += f", {len(history.failed)} failed" if history.failed else ""
    if best is None or best.value is None:
        return f"no result: {tried}"
    summary = f"best: {best.name}, {history.metric} {best.value:.6g}"
    notes = []
    reference, first = history.float_value(best), history.baseline
    if reference is not None:
        notes.append(f"float {reference:.6g}")
    if first is not None and first is not best and first.value is not None:
        notes.append(f"baseline {first.value:.6g}")
    summary += f" ({', '.join(notes)})" if notes else ""
    final = history.finals.get(best.id)
    if final is not None and final.score.value is not None:
        summary += f", held out {final.score.value:.6g}"
    if history.gap_closed is not None:
        share = gap_words(history.gap_closed)
        summary += f"; {share} of the drop from float to baseline came back"
    elif history.no_gap == NO_LOSS:
        summary += f"; {NO_LOSS}"
    return f"{summary}; {tried}"


def _costs(record: ComparedIteration) -> tuple[str, str, str]:
    """Write milliseconds, or the time relative to the baseline, and KiB of RAM and flash."""
    cost = record.cost
    if cost is None:
        return "", "", ""
    time = "" if cost.relative_time is None else f"x {cost.relative_time:.2f}"
    return (
        time if cost.milliseconds is None else f"{cost.milliseconds:.4g}",
        "" if cost.ram_bytes is None else f"{cost.ram_bytes / 1024:,.0f}",
        "" if cost.flash_bytes is None else f"{cost.flash_bytes / 1024:,.0f}",
    )


def _signals(record: ComparedIteration) -> tuple[str, str]:
    """Write the noise at the outputs, and how often the float model decides alike."""
    signals = record.signals
    noise = None if signals is None else signals.noise_signal
    agreement = None if signals is None else signals.agreement
    return (
        "" if noise is None else f"{noise:.3g}",
        "" if agreement is None else f"{agreement:.1%}",
    )
