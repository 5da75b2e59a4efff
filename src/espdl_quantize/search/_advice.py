"""Phase 5 in words: guidance, no setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from espdl_quantize.search.levers import LEVERS, improved, is_tried, linear_order
from espdl_quantize.search.triggers import Finding, find_triggers, gap_points

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


def advice_when_open(state: SearchState, reason: str) -> str:
    """Say what the data of this history suggests to try."""
    best, signals = state.best, state.signals
    if best is None:
        return (
            f"Open exploration ({reason}): no iteration has a score. Fix what made them fail and "
            "retry one before anything else."
        )
    lines = [
        f"Open exploration ({reason}). Start from {best.name}, change what the data asks for, and "
        "name in the rationale the iterations that speak for each change."
    ]
    if len(signals.improving_levers) >= 2:
        gains = ", ".join(
            f"iter_{effect.iter} {effect.delta_vs_prior_best:+.4g} ({effect.added_pass})"
            for effect in signals.improving_levers
        )
        lines.append(f"Stack what gained: {gains}.")
    if signals.untried_phase3_levers:
        levers = ", ".join(f"{id} ({LEVERS[id].title})" for id in signals.untried_phase3_levers)
        lines.append(f"Untried levers: {levers}.")
    if signals.untried_calib_swaps:
        calibrations = ", ".join(signals.untried_calib_swaps)
        lines.append(f"Calibrations not yet on best's stack: {calibrations}.")
    if signals.untried_5beta_reapply:
        calibrations = ", ".join(signals.untried_5beta_reapply)
        lines.append(
            f"Calibrations judged on a shallower stack, to be tried again: {calibrations}."
        )
    if signals.untried_phase5_patterns:
        lines.append(f"Untried patterns: {', '.join(signals.untried_phase5_patterns)}.")
    # A calibration that was worse on one stack may win on another, so it is not warned of.
    losses = ", ".join(
        f"iter_{effect.iter} ({effect.added_pass})"
        for effect in signals.regressing_levers
        if not effect.added_pass.startswith("calib_algorithm")
    )
    if losses:
        lines.append(f"These lost, do not stack them again as they were: {losses}.")
    lines += [f"{crashed.consequence}." for crashed in state.crashes.passes]
    lines += [f"{item.rule}: {item.text} -> {item.method}." for item in state.findings]
    return " ".join(lines)


def find_matching(state: SearchState) -> list[Finding]:
    """Return the triggers that match best's artifacts, given what was tried."""
    history, target, best = state.ranking, state.target, state.best
    points = None
    if best is not None and state.best_value is not None and target is not None:
        points = 0.0 if history.meets(best, target) else gap_points(state.best_value, target)
    equalize = LEVERS["3d"]
    return find_triggers(
        state.best_evidence,
        state.options.thresholds,
        equalization_failed=is_tried(equalize, history) and not improved(equalize, history),
        all_tried=all(
            is_tried(lever, history) for lever in linear_order(state.priority) if lever.id != "3g"
        ),
        points_to_target=points,
    )
