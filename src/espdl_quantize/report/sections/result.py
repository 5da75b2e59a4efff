"""What came out: the figures at the top of the page, the summary, and why the search ended."""

from __future__ import annotations

from collections import Counter
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
from espdl_quantize.report.scores import (
    came_back,
    held_out,
    held_out_float,
    loss_name,
    show_score,
)
from espdl_quantize.search import relaxed_rule
from espdl_quantize.search.plain_names import move_name

_FREE = "at no cost on the chip"
_ENOUGH, _LITTLE, _LARGE = 3, 0.1, 0.1
"""A search has failed where so many scores have won less than this share of a drop back, and best
is still behind the float model by this share of its score."""
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
    causes = tuple(likely_causes(step))
    if causes:
        yield Bullets(causes, title="The likely cause", kind="warnings")
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
    yield Paragraph(verdict_sentence(history))
    metric = plain(history.metric or "metric")
    aim = "not set" if target is None else number(target)
    lines = [
        f"Best iteration: {best.name}",
        f"{metric}: {show_score(history, best.value)} (target: {aim}; "
        f"{history.direction} is better)",
    ]
    reference = history.float_value(best)
    if reference is not None and best.value is not None:
        lines.append(
            f"Float model: {show_score(history, reference)} "
            f"(quantized: {show_score(history, best.value - reference, sign=True)})"
        )
    lines += _certainty(history)
    lines.append(plain(score_source(history), 600))
    lines.append(f"On-device speed cost against the baseline: {plain(cost_of(history, best))}")
    others = [
        f"{plain(key)} {plain(number(value) if isinstance(value, float) else value)}"
        for key, value in best.metrics.items()
        if key not in (history.metric, "metric_direction")
        # Lists and the like are no figures to read.
        and isinstance(value, (str, int, float))
    ]
    if others:
        lines.append(f"Other metrics: {', '.join(others[:30])}")
    seconds = sum(record.elapsed_seconds or 0 for record in history.iterations)
    lines.append(f"Iterations: {len(history.iterations)}, {len(history.failed)} of them failed")
    if seconds:
        lines.append(f"Time on the PC: {seconds / 60:.1f} minutes")
    lines.append(f"Strategy of the search: {step.situation.options.strategy}")
    relaxed = relaxed_rule(step.situation)
    lines += [relaxed] if relaxed is not None else []
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
    if best is None or first is None:
        return _without_score(history)
    if held_out(history, best) is not None:
        return _held_out_verdict(history, best, first)
    share = gap_share(history)
    at_cost = _at_cost(history, best)
    versus = None if best.id == first.id else history.versus(best, first)
    is_chance = versus is not None and Verdict(versus.verdict) is Verdict.WITHIN_NOISE
    if is_chance:
        at_cost += "; against the baseline that is within noise"
    if history.no_gap == NO_LOSS:
        reference = history.float_value(first)
        return (
            f"{NO_LOSS.capitalize()}: float {show_score(history, reference)}, baseline "
            f"{show_score(history, first.value)}, best {show_score(history, best.value)}."
        )
    if share is not None and best.id != first.id and share > 0:
        if has_failed(history):
            return f"Failed: {_lost(history, share)}"
        return f"{_share_of(history, share)}, {at_cost}."
    if has_failed(history):
        return f"Failed: {_lost(history, share or 0.0)}"
    if best.id == first.id and len(history.scored) > 1:
        return "No change beat the baseline."
    if best.id == first.id:
        return "One setting has a score so far."
    gain = history.height(best) - history.height(first)
    if gain <= 0:
        return f"No setting scores better than the baseline; {best.name} is as good, {at_cost}."
    return f"{show_score(history, gain)} better than the baseline, {at_cost}."


def has_failed(history: History) -> bool:
    """Tell whether all that was tried won next to nothing of a large loss back."""
    best, first, share = history.best, history.baseline, history.gap_closed
    if best is None or first is None or share is None or len(history.scored) < _ENOUGH:
        return False
    reference = history.float_value(best)
    if reference is None or not reference:
        return False
    return share < _LITTLE and history.gap_to(best, reference) / abs(reference) > _LARGE


def likely_causes(step: Step) -> Iterator[str]:
    """Name what a failure most likely comes of, from what the artifacts show."""
    history, worst = step.history, step.situation.best_evidence.worst(1)
    if not history.scored:
        counts = Counter(str(record.failure or "no score") for record in history.failed)
        for cause, count in counts.most_common(3):
            yield f"{count} of {len(history.iterations)} iterations: {plain(cause, 600)}"
        return
    best = history.best
    if not has_failed(history) or best is None or not worst:
        return
    limit = step.situation.options.thresholds.layer_snr
    op, snr = worst[0]
    if snr < limit:
        yield (
            f"Every layer alone is well (the worst, {plain(op)}, has noise:signal {snr:.2g}, and "
            f"{limit:g} needs work), and the score is not. That is mostly so where calibration and "
            "scoring preprocess their samples differently, or where the score reads an output in "
            "a way that the quantized model does not keep. Compare both in the contract first."
        )
    else:
        yield (
            f"Layers are bad even alone: {plain(op)} has noise:signal {snr:.3g}, where {limit:g} "
            "needs work. See where the error is, below: 16 bits for that layer, other calibration "
            "samples, or another op in its place."
        )


def _without_score(history: History) -> str:
    if history.failed:
        first = history.failed[-1]
        cause = plain("no score" if first.failure is None else first.failure.cause, 300)
        count = len(history.failed)
        every = "The only iteration" if count == 1 else f"All {count} iterations"
        return f"{every} failed; no model was made. The last cause: {cause}."
    return "No iteration has a score yet."


def _lost(history: History, share: float) -> str:
    best, first = history.best, history.baseline
    reference = None if best is None else history.float_value(best)
    back = "nothing" if share <= 0 else f"only {gap_words(share)}"
    parts = [f"float {show_score(history, reference)}"]
    if first is not None and first is not best:
        parts.append(f"baseline {show_score(history, first.value)}")
    if best is not None:
        parts.append(f"best {show_score(history, best.value)}")
    return f"{back} of {loss_name(history)} {came_back(history)} ({', '.join(parts)})."


def _share_of(history: History, share: float) -> str:
    words = gap_words(share)
    return f"{words[0].upper()}{words[1:]} of {loss_name(history)} {came_back(history)}"


def _held_out_verdict(history: History, best: Iteration, first: Iteration) -> str:
    value, reference = held_out(history, best), held_out_float(history)
    base = None if best is first else held_out(history, first)
    metric = plain(history.metric or "metric", 60)
    scores = [f"{metric} {show_score(history, value)} on held-out samples"]
    if base is not None:
        scores.append(f"baseline {show_score(history, base)}")
    if reference is not None:
        scores.append(f"float {show_score(history, reference)}")
    listed = ", ".join(scores)
    at_cost = _at_cost(history, best)
    versus = history.final_versus_baseline()
    if versus is not None and Verdict(versus.verdict) is Verdict.WITHIN_NOISE:
        return f"{listed}: within noise of the baseline, {at_cost}."
    share = held_out_share(history)
    if share is None:
        return f"{listed}; {at_cost}."
    if has_failed(history) or share <= 0:
        back = "nothing" if share <= 0 else f"only {gap_words(share)}"
        return f"Failed: {back} of {loss_name(history)} {came_back(history)} ({listed})."
    return f"{_share_of(history, share)}, {at_cost}: {listed}."


def held_out_share(history: History) -> float | None:
    """Return the share of the drop that came back on samples that took no part in the search."""
    best, first = history.best, history.baseline
    if best is None or first is None or best is first:
        return None
    value, base = held_out(history, best), held_out(history, first)
    reference = held_out_float(history)
    if value is None or base is None or reference is None:
        return None
    drop = reference - base
    lost = drop if Direction(history.direction) is Direction.MAX else -drop
    score = history.finals[first.id].score
    if lost <= 0 or history.final_noise.is_chance_drop(score, reference):
        return None
    return (value - base) / drop


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
    """Show the held-out scores where there are any, and the search's beside them."""
    history, target = step.history, step.situation.options.target
    best, first = step.best, history.baseline
    if best is None or first is None or best.value is None or first.value is None:
        return
    reference = history.float_value(best)
    final, final_float = held_out(history, best), held_out_float(history)
    final_base = held_out(history, first)
    searched = "on the samples of the search"

    def shown(value: float | None) -> str:
        return show_score(history, value)

    if final is not None and final_float is not None:
        notes = () if reference is None else (f"{shown(reference)} {searched}",)
        yield Tile("float", "Float model, held out", shown(final_float), notes)
    elif reference is not None:
        yield Tile("float", "Float model", shown(reference))
    if final is not None and final_base is not None:
        beside = [f"{shown(first.value)} {searched}"]
        if final_float is not None:
            change = show_score(history, final_base - final_float, sign=True)
            beside.insert(0, f"{change} to the float model")
        title = f"Baseline ({first.name}), held out"
        yield Tile("base", title, shown(final_base), tuple(beside))
    else:
        lost = None if reference is None else first.value - reference
        change = show_score(history, lost, sign=True)
        notes = () if lost is None else (f"{change} to the float model",)
        yield Tile("base", f"Baseline ({first.name})", shown(first.value), notes)
    yield Tile(
        "best",
        f"Best ({best.name})" + ("" if final is None else ", held out"),
        shown(best.value if final is None else final),
        tuple(_notes_of_best(history, best, first, target)),
    )


def _notes_of_best(
    history: History, best: Iteration, first: Iteration, target: float | None
) -> Iterator[str]:
    final = held_out(history, best)
    value = best.value if final is None else final
    base = first.value if final is None else held_out(history, first)
    reference = history.float_value(best) if final is None else held_out_float(history)
    if best.id != first.id and value is not None and base is not None:
        yield f"{show_score(history, value - base, sign=True)} to the baseline"
    if reference is not None and value is not None:
        yield f"{show_score(history, value - reference, sign=True)} to the float model"
    if final is not None:
        yield f"{show_score(history, best.value)} on the samples of the search, which chose it"
    if target is not None:
        verdict = "reached" if history.meets(best, target) else "missed"
        yield f"target {show_score(history, target)} {verdict}"


def _share(history: History) -> Iterator[Tile]:
    share, where = held_out_share(history), "on held-out samples, "
    if share is None:
        share = gap_share(history)
        has_final = held_out(history, history.best) is not None
        where = "on the samples of the search, " if has_final else ""
    if share is not None:
        lost = loss_name(history)
        yield Tile(
            "share",
            f"Of {lost}, {came_back(history).removesuffix(' again')}",
            gap_words(share) if share > 0 else "nothing",
            (f"{where}from the baseline towards the float model",),
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
        return Tile("stop", "The search", "Not ended yet", is_long=True)
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
            yield f"{name}: {', '.join(map(move_name, untried))}"
