"""What came out: the figures at the top of the page, the summary, and why the search ended."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.core import Direction, Verdict
from espdl_quantize.record import NO_LOSS, History, Iteration
from espdl_quantize.report._blocks import (
    Block,
    Bullets,
    Paragraph,
    Step,
    Tile,
    Tiles,
    section,
)
from espdl_quantize.report._certainty import certainty_lines, final_lines, score_source
from espdl_quantize.report._comparison import cost_of
from espdl_quantize.report._engine import engine_of
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report._finalize import Category, FinalizeReason
from espdl_quantize.report._gap import gap_words

_FREE = "at no cost on the chip"
_STOPS: dict[Category, str] = {
    "target_reached": "The target is reached",
    "plateau": "The score stopped moving",
    "budget_reached": "The budget is spent",
    "coverage_exhausted": "Nothing is left to try",
    "force_finalize_phase5": "Ended by hand while the search was open",
    "manual_finalize_phase4": "Ended by hand",
    "manual_finalize_pre_phase5": "Ended by hand before the search was through",
}


@section("Result", html=10, markdown=None, terminal=None, is_title_hidden=True)
def result(step: Step) -> Iterator[Block]:
    """Show in a few figures what came out, and how sure that is."""
    history = step.history
    metric = plain(history.metric or "metric", 60)
    direction = "higher" if Direction(history.direction) is Direction.MAX else "lower"
    yield Paragraph(f"Metric: {metric} ({direction} is better)", "metric")
    yield Tiles((*_scores(step), *_share(history), _cost(history, step.best), _ending(step.reason)))
    sentences = _certainty(history)
    if sentences:
        yield Bullets(sentences, title="How sure this is")
    yield Paragraph(score_source(history), "source")


@section("Summary", html=None, markdown=10, terminal=None)
def summary(step: Step) -> Iterator[Block]:
    """Say in a list what came out."""
    history, target, best = step.history, step.situation.options.target, step.best
    if best is None:
        return
    metric = plain(history.metric or "metric")
    aim = "not set" if target is None else number(target)
    lines = [
        f"Best iteration: {best.name}",
        f"{metric}: {number(best.value)} (target: {aim}; {history.direction} is better)",
    ]
    reference = history.float_value(best)
    if reference is not None and best.value is not None:
        lines.append(
            f"Float model: {number(reference)} "
            f"(quantized: {number(best.value - reference, sign=True)})"
        )
    lines += _certainty(history)
    lines.append(plain(score_source(history), 600))
    lines.append(f"On-device speed cost against the baseline: {plain(cost_of(history, best))}")
    others = [
        f"{plain(key)} {plain(number(value) if isinstance(value, float) else value)}"
        for key, value in best.metrics.items()
        if key not in (history.metric, "metric_direction")
    ]
    if others:
        lines.append(f"Other metrics: {', '.join(others[:30])}")
    seconds = sum(record.elapsed_seconds or 0 for record in history.iterations)
    lines.append(f"Iterations: {len(history.iterations)}, {len(history.failed)} of them failed")
    if seconds:
        lines.append(f"Time on the PC: {seconds / 60:.1f} minutes")
    lines.append(f"Strategy of the search: {step.situation.options.strategy}")
    engine = engine_of(history)
    if engine:
        lines.append(f"Engine: {plain(engine, 300)}")
    lines += [f"Warning: {plain(warning)}" for warning in history.warnings]
    yield Bullets(tuple(lines))


@section("Stop reason", html=None, markdown=20, terminal=None)
def stop_reason(step: Step) -> Iterator[Block]:
    """Say why the search ended, and what was left untried."""
    reason = step.reason
    if reason is not None:
        untried = _untried(reason, "Calibrations to try again on the deeper stack")
        yield Bullets((f"Category: {reason.category}", plain(reason.detail, 600), *untried))


def verdict_sentence(history: History) -> str:
    """Say in a sentence what the search has brought, and at which cost."""
    best, first = history.best, history.baseline
    share = gap_share(history)
    if best is None or first is None:
        return "No iteration has a score yet."
    at_cost = _at_cost(history, best)
    versus = None if best.id == first.id else history.versus(best, first)
    if versus is not None and Verdict(versus.verdict) is Verdict.WITHIN_NOISE:
        at_cost += "; against the baseline that is within noise"
    if history.no_gap == NO_LOSS:
        reference = history.float_value(first)
        return (
            f"{NO_LOSS.capitalize()}: float {number(reference)}, baseline {number(first.value)}, "
            f"best {number(best.value)}."
        )
    if share is not None and best.id != first.id and share > 0:
        words = gap_words(share)
        words = words[0].upper() + words[1:]
        return f"{words} of the accuracy lost to quantization came back, {at_cost}."
    if best.id == first.id and len(history.scored) > 1:
        return "No change beat the baseline."
    if best.id == first.id:
        return "One setting has a score so far."
    gain = history.height(best) - history.height(first)
    return f"{number(gain)} better than the baseline, {at_cost}."


def gap_share(history: History) -> float | None:
    """Return the share of the lost accuracy that came back; None where there is none to tell."""
    # A baseline alone has won nothing back, and lost nothing by it.
    return history.gap_closed if len(history.scored) > 1 else None


def _certainty(history: History) -> tuple[str, ...]:
    return tuple(plain(line, 900) for line in (*certainty_lines(history), *final_lines(history)))


def _at_cost(history: History, best: Iteration) -> str:
    cost = history.prices.of(best)
    if cost is None:
        return "at an unknown cost on the chip"
    counts = [
        (len(cost.int16_ops), "op in int16", "ops in int16"),
        (cost.slower_ops - len(cost.int16_ops), "split layer", "split layers"),
    ]
    parts = [
        f"{count} {singular if count == 1 else plural}"
        for count, singular, plural in counts
        if count
    ]
    more = f" ({cost.more:+.1%} time)" if cost.more is not None else ""
    if parts:
        return f"for {' and '.join(parts)}{more}"
    return f"at a cost on the chip{more}" if cost.affects_inference_speed else _FREE


def _scores(step: Step) -> Iterator[Tile]:
    history, target = step.history, step.situation.options.target
    best, first = step.best, history.baseline
    if best is None or first is None or best.value is None or first.value is None:
        return
    reference = history.float_value(best)
    if reference is not None:
        yield Tile("float", "Float model", number(reference))
    lost = None if reference is None else first.value - reference
    to_float = () if lost is None else (f"{number(lost, sign=True)} to the float model",)
    yield Tile("base", f"Baseline ({first.name})", number(first.value), to_float)
    notes = []
    if best.id != first.id:
        notes.append(f"{number(best.value - first.value, sign=True)} to the baseline")
    if reference is not None:
        notes.append(f"{number(best.value - reference, sign=True)} to the float model")
    if target is not None:
        verdict = "reached" if history.meets(best, target) else "missed"
        notes.append(f"target {number(target)} {verdict}")
    yield Tile("best", f"Best ({best.name})", number(best.value), tuple(notes))


def _share(history: History) -> Iterator[Tile]:
    share = gap_share(history)
    if share is not None:
        yield Tile(
            "share",
            "Lost accuracy that came back",
            gap_words(share),
            ("from the baseline towards the float model",),
            # What does not fit on the bar is still in the number.
            share=round(100 * min(max(share, 0.0), 1.0), 1),
        )


def _cost(history: History, best: Iteration | None) -> Tile:
    """Split "Yes (what)" into a word and its reason."""
    word, _, why = ("-" if best is None else plain(cost_of(history, best))).partition(" (")
    note = why.removesuffix(")") or "compared with the plain quantized model"
    return Tile("cost", "Slower on the chip", word.capitalize(), (note,), is_long=True)


def _ending(reason: FinalizeReason | None) -> Tile:
    if reason is None:
        title, notes = "The search is not ended", []
    else:
        title = _STOPS[reason.category]
        notes = [plain(reason.detail, 600), *_untried(reason, "Calibrations to try again")]
    shown = tuple(note for note in notes if note)
    return Tile("stop", "Why the search ended", title, shown, is_long=True)


def _untried(reason: FinalizeReason, reapply: str) -> Iterator[str]:
    for name, untried in (
        ("Untried patterns", reason.untried_phase5_patterns),
        ("Untried levers", reason.untried_phase3_levers),
        (reapply, reason.untried_5beta_reapply),
    ):
        if untried:
            yield f"{name}: {', '.join(untried)}"
