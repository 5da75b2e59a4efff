"""Runs a search with any backend, with a line that says where it stands, and shows its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._paths import whole
from espdl_quantize.cli._progress import ProgressLines, TerminalProgress, shown
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import Hint, InterruptedSearchError, Progress, describe_seconds, dumps
from espdl_quantize.record import NO_LOSS, History, Iteration
from espdl_quantize.record.comparison import ComparedIteration
from espdl_quantize.record.files import HTML_REPORT, REPORT
from espdl_quantize.report import (
    certainty_lines,
    cost_lines,
    delta_of,
    final_lines,
    gap_words,
    outcome_of,
)
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
) -> None:
    """Search with any backend; with ``as_json``, print one JSON object and nothing else.

    Raises:
        InterruptedSearchError: the user interrupted it.
    """
    place = whole(outputs)
    try:
        with shown(progress_lines, as_json=as_json) as progress:
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

    def planned(self, plan: Plan) -> None:
        """Print the plan."""
        self._progress.say("\n".join(["expected:", *plan.lines()]))

    def iteration_started(self, status: Status) -> None:
        """Say where the search stands."""
        self._progress.header = describe_status(status)
        self._progress.say(f"iter_{status.proposal.setting.iteration_id}: {self._progress.header}")

    def iteration_ended(self, row: Iteration, history: History) -> None:
        """Say what came of it."""
        if row.failure is not None:
            self._progress.say(f"{row.name} failed: {row.failure}")
            return
        if row.is_without_effect:
            self._progress.say(f"{row.name} had no effect: its graph is that of iter_{row.same_as}")
            return
        delta, outcome = delta_of(history, row), outcome_of(history, row)
        change = "" if delta is None else f" ({delta:+.4g} against the best before: {outcome})"
        noise = row.signals.noise_signal if row.signals is not None else None
        change += "" if noise is None else f", output noise {noise:.3g}"
        news = ", the best now" if delta is not None and history.best is row else ""
        self._progress.say(f"{row.name}: {history.metric} {row.value:.6g}{change}{news}")

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._progress.say(f"note: {text}")


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
    parts = [status.proposal.phase, status.proposal.pattern]
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


_SECONDARY = ("95 %", "noise", "agrees", "flash, KiB")
_WIDE = 110
"""Characters of a terminal that has room for every column."""


def result_table(result: TuneResult, width: int) -> Table:
    """Return a row per iteration, less the columns that are empty or that have no room."""
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
    table = Table(title=f"{len(history.iterations)} iterations", title_justify="left")
    places = [at for at, head in enumerate(heads) if width >= _WIDE or head not in _SECONDARY]
    shown = [at for at in places if any(row[at] for row in rows)]
    for at in shown:
        table.add_column(escape(heads[at]), overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[at]) for at in shown))
    return table


def _print_result(result: TuneResult, outputs: Path) -> None:
    console, history = Console(highlight=False), result.history
    console.print(result_table(result, console.width))
    if result.iterations_run == 0:
        console.print("nothing was run: the search in this folder has ended already")
    console.print(escape(f"stopped ({result.category}): {result.detail}"))
    best = history.best
    if best is not None and best.value is not None:
        summary = f"best: {best.name}, {history.metric} {best.value:.6g}"
        reference = history.float_value(best)
        if reference is not None:
            summary += f" (float {reference:.6g})"
        if history.gap_closed is not None:
            share = gap_words(history.gap_closed)
            summary += f"; {share} of the drop from float to baseline came back"
        elif history.no_gap == NO_LOSS:
            summary += f"; {NO_LOSS}"
        console.print(escape(summary))
        for line in (
            *certainty_lines(history),
            *final_lines(history),
            *cost_lines(history),
        ):
            console.print(escape(line))
    if result.category == "plateau":
        console.print("the metric has stopped moving; --ignore-plateau goes on all the same")
    console.print(escape(f"model:  {outputs / 'best'}"))
    console.print(escape(f"report: {outputs / HTML_REPORT} (as text: {REPORT})"))


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
