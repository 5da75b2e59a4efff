"""What a comparison prints: the ranking, the next step, what was written, how to end."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.core import Hint, Option
from espdl_quantize.record.comparison import ComparedIteration, OnBoard
from espdl_quantize.report._blocks import Block, Lines, Step, section
from espdl_quantize.report._certainty import final_lines, score_source
from espdl_quantize.report._escape import number, plain
from espdl_quantize.search import Open, Proposal, Stop
from espdl_quantize.search.plain_names import explain_triggers, lever_name, move_name, phase_name

_SHOWN = 12
_ADVICE = 4000


@section("", html=None, markdown=None, terminal=10)
def ranking(step: Step) -> Iterator[Block]:
    """Name the best and list the newest iterations."""
    yield Lines(tuple(_ranking(step)))


@section("", html=None, markdown=None, terminal=20)
def next_step(step: Step) -> Iterator[Block]:
    """Say what is next; once this call has ended the search, or it ended by itself, nothing is."""
    if _goes_on(step):
        yield Lines(tuple(_next_step(step)))
    elif step.reason is None:
        yield Lines((plain(step.comparison.next_step_hint.advice, _ADVICE),))


@section("", html=None, markdown=None, terminal=30)
def ranking_warnings(step: Step) -> Iterator[Block]:
    """Say what the reader of the ranking should know."""
    warnings = step.comparison.ranking_warnings
    yield Lines(tuple(f"warning: {plain(warning)}" for warning in warnings))


@section("", html=None, markdown=None, terminal=40)
def refusal(step: Step) -> Iterator[Block]:
    """Say why what was asked for is refused, and what is left untried."""
    plan, decision = step.plan, step.decision
    if not plan.refusal:
        return
    yield Lines((f"REFUSED: {plain(plan.refusal)}",))
    if not plan.premature or not isinstance(decision, Open):
        return
    signals = decision.signals
    names = ("untried_phase5_patterns", "untried_phase3_levers", "untried_5beta_reapply")
    yield Lines(
        (
            "best/ and final_report.md were not written; comparison.json was",
            *(
                f"  {name}: {', '.join(map(move_name, getattr(signals, name))) or 'none'}"
                for name in names
            ),
            Hint(
                "either run further iterations, or add ",
                Option.FORCE_FINALIZE.of(True),
                " to end the search here",
            ),
        )
    )


@section("", html=None, markdown=None, terminal=50)
def ending(step: Step) -> Iterator[Block]:
    """Say why this call has ended the search, and what the final score is."""
    if step.reason is None:
        return
    yield Lines((f"finalized ({step.reason.category}): {plain(step.reason.detail)}",))
    yield Lines(tuple(plain(line, 900) for line in final_lines(step.history)))
    if not step.comparison.final.taken:
        yield Lines((plain(score_source(step.history), 900),))


@section("", html=None, markdown=None, terminal=1000)
def written(step: Step) -> Iterator[Block]:
    """Say what was written, and how to end the search."""
    yield Lines(tuple(plain(line) for line in step.done))
    if _goes_on(step):
        yield Lines((f"to end the search here: {step.comparison.early_finalize_command}",))


def _goes_on(step: Step) -> bool:
    return step.reason is None and not isinstance(step.decision, Stop)


def _next_step(step: Step) -> Iterator[str]:
    decision = step.decision
    lever = decision.lever if isinstance(decision, Proposal) else None
    name = phase_name(decision.phase).partition(" (")[0]
    yield f"phase: {decision.phase} ({name})" + (f", {lever_name(lever)}" if lever else "")
    yield f"next: {explain_triggers(plain(step.comparison.next_step_hint.advice, _ADVICE))}"
    for skip in decision.skipped:
        yield f"skipped {move_name(skip.lever)}: {explain_triggers(plain(skip.reason))}"
    for note in decision.notes:
        yield f"note: {explain_triggers(plain(note, 600))}"


def _ranking(step: Step) -> Iterator[str]:
    comparison = step.comparison
    iterations, best = comparison.iterations, comparison.best_iteration
    if best is None:
        count = "1 iteration" if len(iterations) == 1 else f"{len(iterations)} iterations"
        yield f"{count}, none with a score" if iterations else "no iterations yet"
        return
    metric = plain(comparison.primary_metric or "metric")
    line = f"best: iter_{best.iteration_id}, {metric} {number(best.primary_value)}"
    if comparison.target_metric is not None:
        line += f" (target {number(comparison.target_metric)})"
    if best.interval is not None:
        line += f", 95 % interval {best.interval.low:.4g} to {best.interval.high:.4g}"
    yield line
    if best.highest_score != best.iteration_id:
        yield (
            f"  iter_{best.highest_score} scored higher, within noise; ties go to what costs "
            "the chip less, then to noise at the outputs that is less beyond chance"
        )
    for line in comparison.cost_lines:
        yield f"  {plain(line, 600)}"
    if len(iterations) > _SHOWN:
        yield f"  ... {len(iterations) - _SHOWN} earlier iterations are in comparison.json"
    for record in iterations[-_SHOWN:]:
        yield from _ranked(record)
    for excluded in comparison.excluded_iterations:
        yield (
            f"  iter_{excluded.iteration_id:<3} rank -   {number(excluded.primary_value):<10} "
            f"{'excluded':<12} see the warning below"
        )


def _ranked(record: ComparedIteration) -> Iterator[str]:
    yield (
        f"  iter_{record.iteration_id:<3} rank {record.rank!s:<3} "
        f"{number(record.primary_value):<10} {record.outcome:<12}{_noise(record)}{_cost(record)} "
        f"{plain(record.changed, 120)}"
    )
    if record.attempts:
        count = len(record.attempts)
        attempts = f"{count} failed attempt{'s' if count > 1 else ''}"
        cause = plain(record.attempts[-1].cause, 200)
        yield f"    iter_{record.iteration_id}: {attempts} before: {cause}"
    if record.device is not None:
        yield f"           {_on_board(record.device)}"


def _on_board(device: OnBoard) -> str:
    """Write what a board measured of an iteration's model."""
    parts = []
    if device.loaded is False:
        parts.append("the model does not load")
    if device.ms is not None:
        parts.append(f"{device.ms:.4g} ms per run")
    if device.test is not None:
        parts.append(f"test {device.test}")
    chip = f" ({plain(device.chip, 20)})" if device.chip else ""
    return f"measured on a board{chip}: {', '.join(parts) or plain(device.problem) or 'nothing'}"


def _cost(record: ComparedIteration) -> str:
    """Write milliseconds, or the time relative to the baseline, and KiB of RAM and flash."""
    cost = record.cost
    if cost is None:
        return ""
    time = "" if cost.relative_time is None else f"{cost.relative_time:.2f} of the time, "
    if cost.milliseconds is not None:
        time = f"{cost.milliseconds:.4g} ms, "
    ram = "-" if cost.ram_bytes is None else f"{cost.ram_bytes / 1024:,.0f}"
    flash = "-" if cost.flash_bytes is None else f"{cost.flash_bytes / 1024:,.0f}"
    return f" | {time}RAM {ram}, flash {flash} KiB |"


def _noise(record: ComparedIteration) -> str:
    """Write the noise at the outputs."""
    noise = None if record.signals is None else record.signals.noise_signal
    return "" if noise is None else f" | noise {noise:<9.3g}|"
