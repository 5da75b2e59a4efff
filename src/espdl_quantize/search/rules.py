"""The decision order: seven rules, of which the first that speaks decides.

Where none speaks, or the search has had its share of levers, it is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from espdl_quantize.core import Phase
from espdl_quantize.search._advice import advice_when_open
from espdl_quantize.search._decisions import Open, Proposal, SkippedLever, Stop
from espdl_quantize.search._describe import cite, describe_changes, describe_score
from espdl_quantize.search._ranking import ranked_value
from espdl_quantize.search._stops import both_last_worse, plateau, relative_loss, target_reached
from espdl_quantize.search._sweep import near_misses, sweep_setting
from espdl_quantize.search.levers import (
    LEVERS,
    Judgement,
    Lever,
    escalation_converged,
    is_tried,
    unstable_training,
    untried_levers,
)
from espdl_quantize.search.triggers import r3_uneven_channels, r5_mean_shift, r8_multi_input
from espdl_quantize.setting import Setting, baseline

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


def decide_by_rules(state: SearchState) -> Proposal | Stop | None:
    """Ask the rules in their order; None where they leave the search open."""
    for rule in _BEFORE_THE_CAP:
        decision = rule(state)
        if decision is not None:
            return decision
    return None if _levers_since_sweep(state) is not None else _next_lever(state)


def open_exploration(state: SearchState) -> Open:
    """Say what open exploration has to go by."""
    since = None if state.is_swift else _levers_since_sweep(state)
    reason = "the strategy is through" if state.is_swift else "no lever is left"
    if since is not None:
        reason = f"{since} iterations were run since the calibration sweep"
    return Open(
        signals=state.signals,
        advice=advice_when_open(state, reason),
        skipped=state.levers[1],
        notes=(*crash_notes(state), *_nothing_to_gain(state)),
        is_exhausted=_is_exhausted(state),
    )


def judge_levers(state: SearchState) -> tuple[tuple[str, ...], tuple[SkippedLever, ...]]:
    """Split the untried levers of the linear order into those that apply and those that do not."""
    untried = untried_levers(state.history, state.priority)
    if not state.has_base:
        why = "no iteration has a score"
        if state.best is not None:
            why = f"{state.best.name} has no usable setting"
        return (), tuple(SkippedLever(lever.id, f"{why} to change") for lever in untried)
    usable, skipped = [], []
    for lever in untried:
        judgement = judge_lever(lever, state)
        if judgement.applies:
            usable.append(lever.id)
        else:
            skipped.append(SkippedLever(lever.id, judgement.reason))
    return tuple(usable), tuple(skipped)


def judge_lever(lever: Lever, state: SearchState) -> Judgement:
    """Judge a lever by best's artifacts, and by the crashes of the passes that it would run."""
    judgement = lever.applies(state)
    if not judgement.applies:
        return judgement
    barred = state.crashes.bars(pull(lever, state))
    return judgement if barred is None else Judgement(False, barred)


def pull(lever: Lever, state: SearchState) -> Setting:
    """Return best's setting with the lever's change, without layers that a pass crashed in."""
    return state.without_crashed_layers(lever.change(state))


def baseline_first(state: SearchState) -> Proposal | None:
    """Begin with esp-ppq's default setting."""
    if state.history.iterations:
        return None
    setting = baseline(state.history.next_id, state.options.num_of_bits)
    return Proposal(
        setting=setting,
        phase=Phase.BASELINE,
        pattern="baseline",
        reason="no iteration has been run",
        advice=f"Run iter_{setting.iteration_id}, the baseline: esp-ppq's default setting.",
    )


def target_met(state: SearchState) -> Stop | None:
    """End the search where an iteration reaches the target, whatever the rules rank by."""
    reached = target_reached(state.history, state.options.target)
    if reached is None:
        return None
    score = describe_score(state.history, reached)
    return Stop(
        category="target_reached",
        detail=f"{score}, the target is {state.options.target:.6g}",
        notes=tuple(crash_notes(state)),
    )


def _sweep(state: SearchState) -> Proposal | None:
    if not state.missing_sweep:
        return None
    calibration = state.missing_sweep[0]
    rationale = f"Sweep: {calibration} calibration with the default TQT"
    if state.best is None:
        rationale += "; no iteration has a score to compare with yet."
    else:
        rationale += f". So far {cite(state.ranking, state.best, state.best_evidence)}."
    plain = sweep_setting(calibration, state.history.next_id)
    setting = state.crashes.without_crashed_layers(plain)
    if setting is not plain:
        rationale += f" {_left_out(state)}."
    return Proposal(
        setting=setting.model_copy(update={"rationale": rationale}),
        phase=Phase.SWEEP,
        pattern=f"{calibration} + TQT",
        reason=f"no iteration has {calibration} calibration with the default TQT and nothing else",
        advice=(
            f"Run iter_{setting.iteration_id}: {calibration} calibration with the default TQT and "
            "nothing else. A calibration is judged together with training: its score alone does "
            "not predict it."
        ),
        calibration=calibration,
        race="calibration sweep",
        notes=(*crash_notes(state), *near_misses(state.history), *_nothing_to_gain(state)),
    )


def _steady_the_training(state: SearchState) -> Proposal | None:
    if is_tried(LEVERS["3a-3"], state.history) or not _applies("3a-3", state):
        return None
    reason = unstable_training(state.ranking, state.options.thresholds)
    return None if reason is None else _proposal(state, Phase.RESIDUAL, "3a-3", reason)


def _flat(state: SearchState) -> Stop | None:
    history, best = state.ranking, state.best
    last = plateau(history, state.options.thresholds)
    if not last:
        return None
    limit = state.options.thresholds.plateau_relative
    scores = ", ".join(
        f"{iteration.name} {ranked_value(history, iteration):.6g}"
        for iteration in last
        if iteration.value is not None
    )
    top = history.top
    near = top is None or all(relative_loss(history, iteration, top) <= limit for iteration in last)
    detail = f"the last {len(last)} iterations are within "
    detail += (
        f"{limit:.1%} of best" if near else "noise of best, and the outputs' noise fell no more"
    )
    if best is not None and state.best_value is not None:
        detail += f" ({scores}; best {best.name} {state.best_value:.6g})"
    return Stop(category="plateau", detail=detail, notes=tuple(crash_notes(state)))


_BEFORE_THE_CAP: tuple[Callable[[SearchState], Proposal | Stop | None], ...] = (
    baseline_first,
    target_met,
    _sweep,
    _steady_the_training,
    _flat,
)


def _levers_since_sweep(state: SearchState) -> int | None:
    """Return how many iterations were run since the sweep, where they are as many as the cap.

    One without effect does not count.
    """
    complete = state.sweep_complete_after
    since = sum(not item.is_without_effect for item in state.history.iterations[complete or 0 :])
    if complete is None or since < state.options.thresholds.phase3_cap:
        return None
    return since


def _next_lever(state: SearchState) -> Proposal | None:
    usable, skipped = state.levers
    phase = Phase.PIVOT if both_last_worse(state.ranking) else Phase.RESIDUAL
    converged = _converged(state)
    if converged is not None:
        return _proposal(state, phase, "3a-3", converged, skipped)
    if not usable:
        return None
    lever = LEVERS[usable[0]]
    untried = untried_levers(state.history, state.priority)
    passed = [other.id for other in untried[: untried.index(lever)]]
    passed_over = tuple(skip for skip in skipped if skip.lever in passed)
    proposal = _proposal(state, phase, lever.id, lever.applies(state).reason, passed_over)
    return replace(proposal, race="levers")


def _proposal(
    state: SearchState,
    phase: Phase,
    lever_id: str,
    reason: str,
    skipped: tuple[SkippedLever, ...] = (),
) -> Proposal:
    """Put a lever into a setting and into words."""
    lever, best = LEVERS[lever_id], state.best
    assert best is not None
    setting = pull(lever, state)
    rationale = (
        f"Lever {lever.id} on {best.name}: {describe_changes(state.base, setting)}. {reason}. "
        f"{cite(state.ranking, best, state.best_evidence)}."
    )
    if setting != lever.change(state):
        rationale += f" {_left_out(state)}."
    number = state.history.next_id
    advice = f"Run iter_{number}, lever {lever.id} ({lever.title}) on {best.name}: {reason}."
    if phase is Phase.PIVOT:
        advice = f"The last two iterations scored below best; start again from best. {advice}"
    return Proposal(
        setting=setting.model_copy(update={"iteration_id": number, "rationale": rationale}),
        phase=phase,
        pattern=lever.id,
        reason=reason,
        advice=advice,
        lever=lever.id,
        citations=(best.id,),
        skipped=skipped,
        notes=(*crash_notes(state), *_nothing_to_gain(state)),
    )


def _converged(state: SearchState) -> str | None:
    """Path 2 into 3a-3: escalation gained twice, and no pattern asks for another method."""
    untouched = tuple(LEVERS[name] for name in ("3a-3", "3b", "3c", "3d"))
    if not escalation_converged(state.ranking, untouched) or not _applies("3a-3", state):
        return None
    for trigger in (r3_uneven_channels, r5_mean_shift, r8_multi_input):
        if trigger(state.best_evidence, state.options.thresholds) is not None:
            return None
    return "3a-1 and 3a-2 both gained, and neither R3 nor R5 nor R8 matches best's artifacts"


def _applies(lever: str, state: SearchState) -> bool:
    return state.has_base and judge_lever(LEVERS[lever], state).applies


def _is_exhausted(state: SearchState) -> bool:
    best, window = state.best, state.options.thresholds.no_new_best_window
    if state.options.user_budget or best is None or not state.signals.is_covered:
        return False
    return best not in state.ranking.iterations[-window:]


def _left_out(state: SearchState) -> str:
    """Say which layers the passes leave out, and why."""
    crashes = [crash for crash in state.crashes.all if crash.layers]
    places = (f"{item.place} ({item.what} crashed, {item.iteration.name})" for item in crashes)
    return f"Left out: {'; '.join(places)}"


def crash_notes(state: SearchState) -> Iterator[str]:
    """Say which passes crashed, and what is left out of the next settings for it."""
    for crashed in state.crashes.passes:
        yield crashed.reason


def _nothing_to_gain(state: SearchState) -> Iterator[str]:
    """Say so where the best is as good as the float model."""
    history, best = state.ranking, state.best
    reference = None if best is None else history.float_value(best)
    if best is None or reference is None or history.gap_to(best, reference) > 0:
        return
    yield (
        f"{describe_score(history, best)}, the float model {reference:.6g}: quantization loses "
        "nothing on these samples, so nothing is left to gain; more or harder ones would tell more"
    )
