"""The figures at the top of report.html, and what they rest on."""

from __future__ import annotations

from typing import Any

from espdl_quantize.record import NO_LOSS, History, Iteration
from espdl_quantize.report._certainty import score_source
from espdl_quantize.report._comparison import cost_of
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report._finalize import FinalizeReason
from espdl_quantize.report._gap import gap_words
from espdl_quantize.search import SearchState, runtime_cost

Json = dict[str, Any]

_STOPS = {
    "target_reached": "The target is reached",
    "plateau": "The score stopped moving",
    "budget_reached": "The budget is spent",
    "coverage_exhausted": "Nothing is left to try",
    "force_finalize_phase5": "Ended by hand while the search was open",
    "manual_finalize_phase4": "Ended by hand",
    "manual_finalize_pre_phase5": "Ended by hand before the search was through",
}


def headline(
    situation: SearchState, first: Iteration | None, reason: FinalizeReason | None
) -> Json:
    """Say in a few numbers what came out.

    Args:
        situation: the history with settled options.
        first: the iteration that the best is measured against.
        reason: why the search was ended; None where it goes on.
    """
    history = situation.history
    best = history.best
    # A baseline alone has won nothing back, and lost nothing by it.
    share = history.gap_closed if len(history.scored) > 1 else None
    return {
        "verdict": _verdict(history, share, first),
        "tiles": _tiles(situation, first),
        "share": None if share is None else gap_words(share),
        # What does not fit on the bar is still in the number.
        "bar": None if share is None else round(100 * min(max(share, 0.0), 1.0), 1),
        "source": score_source(history),
        "cost": _cost(best),
        "stop": _stop(reason),
    }


def _verdict(history: History, share: float | None, first: Iteration | None) -> str:
    best = history.best
    if best is None or first is None:
        return "No iteration has a score yet."
    at_cost = _at_cost(best)
    found = None if best.id == first.id else history.versus(best, first)
    if found is not None and found.verdict == "within noise":
        at_cost += "; against the baseline that is within noise"
    if history.no_gap == NO_LOSS:
        reference = history.float_value(first)
        return (
            f"{NO_LOSS.capitalize()}: float {number(reference)}, baseline {number(first.value)}, "
            f"best {number(best.value)}."
        )
    if share is not None and best.id != first.id and share > 0:
        told = gap_words(share)
        told = told[0].upper() + told[1:]
        return f"{told} of the accuracy lost to quantization came back, {at_cost}."
    if best.id == first.id and len(history.scored) > 1:
        return "No change beat the baseline."
    if best.id == first.id:
        return "One setting has a score so far."
    gain = history.height(best) - history.height(first)
    return f"{number(gain)} better than the baseline, {at_cost}."


def _at_cost(best: Iteration) -> str:
    if best.setting is None:
        return "at an unknown cost on the chip"
    cost = runtime_cost(best.setting)
    counts = [
        (len(cost.int16_ops), "op in int16", "ops in int16"),
        (cost.slower_ops - len(cost.int16_ops), "split layer", "split layers"),
    ]
    parts = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    return f"for {' and '.join(parts)}" if parts else "at no cost on the chip"


def _cost(best: Iteration | None) -> Json:
    """Split "Yes (what)" into a word and its reason."""
    told = "-" if best is None else plain(cost_of(best))
    word, _, why = told.partition(" (")
    return {"word": word.capitalize(), "why": why.removesuffix(")")}


def _tiles(situation: SearchState, first: Iteration | None) -> list[Json]:
    history, target = situation.history, situation.options.target
    best = history.best
    if best is None or first is None or best.value is None or first.value is None:
        return []
    reference = history.float_value(best)
    tiles: list[Json] = []
    if reference is not None:
        tiles.append({"kind": "float", "title": "Float model", "value": number(reference)})
    lost = None if reference is None else first.value - reference
    tiles.append(
        {
            "kind": "base",
            "title": f"Baseline ({first.name})",
            "value": number(first.value),
            "notes": [] if lost is None else [f"{number(lost, sign=True)} to the float model"],
        }
    )
    notes = [f"{number(best.value - first.value, sign=True)} to the baseline"]
    if reference is not None:
        notes.append(f"{number(best.value - reference, sign=True)} to the float model")
    if target is not None:
        verdict = "reached" if history.meets(best, target) else "missed"
        notes.append(f"target {number(target)} {verdict}")
    tiles.append(
        {
            "kind": "best",
            "title": f"Best ({best.name})",
            "value": number(best.value),
            "notes": notes if best.id != first.id else notes[1:],
        }
    )
    return tiles


def _stop(reason: FinalizeReason | None) -> Json:
    if reason is None:
        return {"title": "The search is not ended", "detail": "", "open": []}
    return {
        "title": _STOPS.get(reason.category, reason.category.replace("_", " ")),
        "detail": plain(reason.detail, 600),
        "open": [
            f"{name}: {', '.join(items)}"
            for name, items in (
                ("Untried patterns", reason.untried_phase5_patterns),
                ("Untried levers", reason.untried_phase3_levers),
                ("Calibrations to try again", reason.untried_5beta_reapply),
            )
            if items
        ],
    }
