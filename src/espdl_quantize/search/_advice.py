"""Phase 5 in words: guidance, no setting."""

from __future__ import annotations

from espdl_quantize.core import Priority
from espdl_quantize.search._crashes import Crashes
from espdl_quantize.search._rules import Situation
from espdl_quantize.search.levers import LEVERS, improved, is_tried, linear_order
from espdl_quantize.search.phase5 import Phase5Signals
from espdl_quantize.search.triggers import Finding, find_triggers, gap_points


def phase5_advice(situation: Situation, reason: str, signals: Phase5Signals) -> str:
    """Say what the data of this history suggests to try."""
    best = situation.history.best
    if best is None:
        return (
            f"Open exploration ({reason}): no iteration has a score. Fix what made them fail and "
            "retry one before anything else."
        )
    lines = [
        f"Open exploration ({reason}). Start from {best.name}, change what the data asks for, and "
        "name in the rationale the iterations that speak for each change."
    ]
    gains = [effect.iter for effect in signals.improving_levers]
    if len(gains) >= 2:
        told = ", ".join(
            f"iter_{effect.iter} {effect.delta_vs_prior_best:+.4g} ({effect.added_pass})"
            for effect in signals.improving_levers
        )
        lines.append(f"Stack what gained: {told}.")
    if signals.untried_phase3_levers:
        told = ", ".join(f"{name} ({LEVERS[name].title})" for name in signals.untried_phase3_levers)
        lines.append(f"Untried levers: {told}.")
    if signals.untried_calib_swaps:
        told = ", ".join(signals.untried_calib_swaps)
        lines.append(f"Calibrations not yet on best's stack: {told}.")
    if signals.untried_5beta_reapply:
        told = ", ".join(signals.untried_5beta_reapply)
        lines.append(f"Calibrations judged on a shallower stack, to be tried again: {told}.")
    if signals.untried_phase5_patterns:
        lines.append(f"Untried patterns: {', '.join(signals.untried_phase5_patterns)}.")
    # A calibration that lost on one stack may win on another, so it is not warned of.
    lost = [
        effect
        for effect in signals.regressing_levers
        if not effect.added_pass.startswith("calib_algorithm")
    ]
    if lost:
        told = ", ".join(f"iter_{effect.iter} ({effect.added_pass})" for effect in lost)
        lines.append(f"These lost, do not stack them again as they were: {told}.")
    lines += [f"{crashed.consequence}." for crashed in Crashes(situation.history).passes]
    for finding in findings(situation):
        lines.append(f"{finding.rule}: {finding.text} -> {finding.method}.")
    return " ".join(lines)


def findings(situation: Situation) -> list[Finding]:
    """Return the triggers that match best's artifacts, given what was tried."""
    history, target = situation.history, situation.options.target
    best = history.best
    points = None
    if best is not None and best.value is not None and target is not None:
        missed = not history.meets(best, target)
        points = gap_points(best.value, target) if missed else 0.0
    equalize = LEVERS["3d"]
    return find_triggers(
        situation.best_evidence,
        situation.options.thresholds,
        equalization_failed=is_tried(equalize, history) and not improved(equalize, history),
        all_tried=all(
            is_tried(lever, history)
            for lever in linear_order(situation.options.priority or Priority.BALANCED)
            if lever.id != "3g"
        ),
        points_to_target=points,
    )
