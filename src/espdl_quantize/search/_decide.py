"""From a history to the next step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from espdl_quantize.record import Evidence, History
from espdl_quantize.search._advice import phase5_advice
from espdl_quantize.search._crashes import Crashes
from espdl_quantize.search._decision import Decision, SearchOptions
from espdl_quantize.search._describe import cite, describe_changes
from espdl_quantize.search._legs import leg
from espdl_quantize.search._notes import crash_notes, near_misses, nothing_to_gain
from espdl_quantize.search._rules import (
    Outcome,
    Situation,
    first_outcome,
    phase5_cutoff,
    pull,
    target_met,
    usable_levers,
)
from espdl_quantize.search._search_by import searched
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.phase5 import Phase5Signals, gather_signals
from espdl_quantize.setting import Setting, baseline


def decide(
    history: History,
    evidence: Mapping[int, Evidence] | None = None,
    options: SearchOptions | None = None,
) -> Decision:
    """Decide the next step.

    Args:
        history: all iterations.
        evidence: artifacts by iteration id. Those of best are looked up; once the search is open,
            also those of the earlier bests, to find out when it opened.
        options: target, priority, budget and thresholds.
    """
    judged = settle(history, evidence, options)
    situation = searching(judged)
    history = situation.history
    outcome = target_met(judged) or first_outcome(situation)
    failed = tuple(row.id for row in history.failed)
    if outcome.phase == "phase-5-agent-driven":
        signals = signals_of(situation)
        return Decision(
            phase=outcome.phase,
            advice=phase5_advice(situation, outcome.reason, signals),
            skipped=outcome.skipped,
            failed=failed,
            signals=signals,
            coverage_exhausted=_is_exhausted(situation, signals),
            notes=(*crash_notes(history), *nothing_to_gain(history)),
        )
    if outcome.stop is not None:
        advice = f"The search is over: {outcome.reason}."
        notes = tuple(crash_notes(history))
        return Decision(
            phase=outcome.phase, advice=advice, failed=failed, stop=outcome.stop, notes=notes
        )
    setting = _next_setting(situation, outcome)
    misses = near_misses(history) if outcome.leg is not None else ()
    return Decision(
        phase=outcome.phase,
        advice=_advice(situation, outcome, setting),
        lever=outcome.lever,
        setting=setting,
        skipped=outcome.skipped,
        failed=failed,
        notes=(*crash_notes(history), *misses, *nothing_to_gain(history)),
    )


def settle(
    history: History,
    evidence: Mapping[int, Evidence] | None = None,
    options: SearchOptions | None = None,
) -> Situation:
    """Fill what the caller left open from what the iterations carry."""
    options = options or SearchOptions()
    settled = replace(
        options,
        target=history.target if options.target is None else options.target,
        priority=options.priority or history.priority,
        num_of_bits=options.num_of_bits or history.num_of_bits,
    )
    return Situation(history, evidence or {}, settled)


def searching(situation: Situation) -> Situation:
    """Return the situation as the rules are to rank it, by the metric or by a signal."""
    history = searched(situation.history, situation.options.search_by)
    if history is situation.history:
        return situation
    return Situation(history, situation.evidence, replace(situation.options, target=None))


def signals_of(situation: Situation) -> Phase5Signals:
    """Summarise what the history offers to build on, whatever the phase."""
    return gather_signals(
        situation.history,
        situation.best_evidence,
        phase5_cutoff(situation),
        usable_levers(situation)[0],
    )


def _next_setting(situation: Situation, outcome: Outcome) -> Setting:
    next_id, history = situation.history.next_id, situation.history
    if outcome.leg is not None:
        told = _leg_rationale(situation, outcome)
        plain = leg(outcome.leg, next_id, told)
        changed = Crashes(history).without_crashed_layers(plain)
        if changed is plain:
            return plain
        told += f" {_left_out(history)}."
        return changed.model_copy(update={"rationale": told})
    context = situation.context
    if outcome.lever is None or context is None:
        return baseline(next_id, situation.options.num_of_bits)
    lever = LEVERS[outcome.lever]
    changed = pull(lever, context)
    told = (
        f"Lever {lever.id} on {context.best.name}: "
        f"{describe_changes(context.base, changed)}. {outcome.reason}. "
        f"{cite(history, context.best, context.evidence)}."
    )
    if changed != lever.change(context):
        told += f" {_left_out(history)}."
    return changed.model_copy(update={"iteration_id": next_id, "rationale": told})


def _left_out(history: History) -> str:
    """Say which layers the passes leave out, and why."""
    found = [crash for crash in Crashes(history).all if crash.layers]
    told = "; ".join(f"{crash.place} ({crash.what} crashed, {crash.row.name})" for crash in found)
    return f"Left out: {told}"


def _leg_rationale(situation: Situation, outcome: Outcome) -> str:
    told = f"Sweep: {outcome.leg} calibration with the default TQT"
    best = situation.history.best
    if best is None:
        return f"{told}; no iteration has a score to compare with yet."
    return f"{told}. So far {cite(situation.history, best, situation.best_evidence)}."


def _advice(situation: Situation, outcome: Outcome, setting: Setting) -> str:
    where = f"iter_{setting.iteration_id}"
    if outcome.phase == "phase-1-baseline":
        return f"Run {where}, the baseline: esp-ppq's default setting."
    if outcome.leg is not None:
        return (
            f"Run {where}: {outcome.leg} calibration with the default TQT and nothing else. A "
            "calibration is judged together with training: its score alone does not predict it."
        )
    best = situation.history.best
    lever = LEVERS[outcome.lever or ""]
    told = f"Run {where}, lever {lever.id} ({lever.title}) on {best.name if best else 'best'}: "
    told += outcome.reason + "."
    if outcome.phase == "phase-3-pivot":
        told = f"The last two iterations scored below best; start again from best. {told}"
    return told


def _is_exhausted(situation: Situation, signals: Phase5Signals) -> bool:
    best, window = situation.history.best, situation.options.thresholds.no_new_best_window
    if situation.options.user_budget or best is None or not signals.is_covered:
        return False
    return best not in situation.history.iterations[-window:]
