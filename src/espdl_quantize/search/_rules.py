"""The decision order: eight rules, of which the first that speaks decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from espdl_quantize.core import Priority
from espdl_quantize.record import Evidence, History
from espdl_quantize.search._crashes import Crashes
from espdl_quantize.search._decision import Phase, SearchOptions, SkippedLever, Stop
from espdl_quantize.search._describe import score
from espdl_quantize.search._legs import Leg, legs_complete_after, missing_leg
from espdl_quantize.search._stops import both_last_worse, plateau, relative_loss, target_reached
from espdl_quantize.search.levers import (
    LEVERS,
    Lever,
    LeverContext,
    Verdict,
    escalation_converged,
    is_tried,
    unstable_training,
    untried_levers,
)
from espdl_quantize.search.triggers import r3_uneven_channels, r5_mean_shift, r8_multi_input
from espdl_quantize.setting import Setting


@dataclass(frozen=True)
class Situation:
    """What the rules look at; target and priority are settled in ``options``."""

    history: History
    evidence: Mapping[int, Evidence]
    options: SearchOptions

    @property
    def best_evidence(self) -> Evidence:
        """The artifacts of best; empty where there is no best or nothing of it is known."""
        best = self.history.best
        return Evidence() if best is None else self.evidence.get(best.id, Evidence())

    @property
    def context(self) -> LeverContext | None:
        """What levers decide on; None without a best whose setting can be changed."""
        best = self.history.best
        if best is None or best.setting is None:
            return None
        return LeverContext(
            self.history,
            best,
            best.setting,
            self.best_evidence,
            self.options.thresholds,
            self.options.target,
        )


@dataclass(frozen=True)
class Outcome:
    """Which rule spoke, before it is put into a setting and into words."""

    phase: Phase
    reason: str
    leg: Leg | None = None
    lever: str | None = None
    skipped: tuple[SkippedLever, ...] = ()
    stop: Stop | None = None


def first_outcome(situation: Situation) -> Outcome:
    """Ask the rules in their order."""
    for rule in _ORDER:
        outcome = rule(situation)
        if outcome is not None:
            return outcome
    return _nothing_left(situation)


def phase5_cutoff(situation: Situation) -> int:
    """Return the last iteration before phase 5 began; -1 if it never did.

    The decisions are replayed on the history as it grew, since nothing about them is stored.
    """
    history = situation.history
    start = legs_complete_after(history)
    if start is None:
        return -1
    for count in range(start, len(history.iterations) + 1):
        then = Situation(history.upto(count), situation.evidence, situation.options)
        if first_outcome(then).phase == "phase-5-agent-driven":
            return history.iterations[count - 1].id
    return -1


def usable_levers(situation: Situation) -> tuple[tuple[str, ...], tuple[SkippedLever, ...]]:
    """Split the untried levers of the linear order into those that apply and those that do not."""
    context, priority = situation.context, situation.options.priority or Priority.BALANCED
    untried = untried_levers(situation.history, priority)
    if context is None:
        best = situation.history.best
        why = "no iteration has a score" if best is None else f"{best.name} has no usable setting"
        return (), tuple(SkippedLever(lever.id, f"{why} to change") for lever in untried)
    usable, skipped = [], []
    for lever in untried:
        verdict = judge_lever(lever, context)
        if verdict.applies:
            usable.append(lever.id)
        else:
            skipped.append(SkippedLever(lever.id, verdict.reason))
    return tuple(usable), tuple(skipped)


def judge_lever(lever: Lever, context: LeverContext) -> Verdict:
    """Judge a lever by best's artifacts, and by the crashes of the passes that it would run."""
    verdict = lever.applies(context)
    if not verdict.applies:
        return verdict
    barred = Crashes(context.history).bars(pull(lever, context))
    return verdict if barred is None else Verdict(False, barred)


def pull(lever: Lever, context: LeverContext) -> Setting:
    """Return best's setting with the lever's change, without layers that a pass crashed in."""
    changed = lever.change(context)
    return Crashes(context.history).without_crashed_layers(changed, context.base)


def _baseline_first(situation: Situation) -> Outcome | None:
    if situation.history.iterations:
        return None
    return Outcome("phase-1-baseline", "no iteration has been run")


def target_met(situation: Situation) -> Outcome | None:
    """End the search where an iteration reaches the target."""
    reached = target_reached(situation.history, situation.options.target)
    if reached is None:
        return None
    told = f"{score(situation.history, reached)}, the target is {situation.options.target:.6g}"
    return Outcome("phase-4-final-report", told, stop=Stop("target_reached", told))


def _sweep(situation: Situation) -> Outcome | None:
    leg = missing_leg(situation.history)
    if leg is None:
        return None
    told = f"no iteration has {leg} calibration with the default TQT and nothing else"
    return Outcome("phase-2-calib-tqt-sweep", told, leg=leg)


def _steady_the_training(situation: Situation) -> Outcome | None:
    if is_tried(LEVERS["3a-3"], situation.history) or not _applies("3a-3", situation):
        return None
    told = unstable_training(situation.history, situation.options.thresholds)
    return None if told is None else Outcome("phase-3-residual", told, lever="3a-3")


def _flat(situation: Situation) -> Outcome | None:
    history, best = situation.history, situation.history.best
    last = plateau(history, situation.options.thresholds)
    if not last:
        return None
    limit = situation.options.thresholds.plateau_relative
    scores = ", ".join(f"{row.name} {row.value:.6g}" for row in last if row.value is not None)
    top = history.top
    near = top is None or all(relative_loss(history, row, top) <= limit for row in last)
    told = f"the last {len(last)} iterations are within "
    told += f"{limit:.1%} of best" if near else "noise of best, and the outputs' noise fell no more"
    told += (
        f" ({scores}; best {best.name} {best.value:.6g})" if best and best.value is not None else ""
    )
    return Outcome("phase-4-final-report", told, stop=Stop("plateau", told))


def _cap(situation: Situation) -> Outcome | None:
    complete = legs_complete_after(situation.history)
    since = len(situation.history.iterations) - (complete or 0)
    if complete is None or since < situation.options.thresholds.phase3_cap:
        return None
    told = f"{since} iterations were run since the calibration sweep"
    return Outcome("phase-5-agent-driven", told, skipped=usable_levers(situation)[1])


def _next_lever(situation: Situation) -> Outcome | None:
    history = situation.history
    usable, skipped = usable_levers(situation)
    phase: Phase = "phase-3-pivot" if both_last_worse(history) else "phase-3-residual"
    converged = _converged(situation)
    if converged is not None:
        return Outcome(phase, converged, lever="3a-3", skipped=skipped)
    context = situation.context
    if context is None or not usable:
        return None
    lever = LEVERS[usable[0]]
    untried = untried_levers(history, situation.options.priority or Priority.BALANCED)
    passed = [other.id for other in untried[: untried.index(lever)]]
    return Outcome(
        phase,
        lever.applies(context).reason,
        lever=lever.id,
        skipped=tuple(skip for skip in skipped if skip.lever in passed),
    )


def _nothing_left(situation: Situation) -> Outcome:
    skipped = usable_levers(situation)[1]
    return Outcome("phase-5-agent-driven", "no lever is left", skipped=skipped)


def _converged(situation: Situation) -> str | None:
    """Path 2 into 3a-3: escalation gained twice, and no pattern asks for another method."""
    untouched = tuple(LEVERS[name] for name in ("3a-3", "3b", "3c", "3d"))
    if not escalation_converged(situation.history, untouched) or not _applies("3a-3", situation):
        return None
    evidence, limits = situation.best_evidence, situation.options.thresholds
    for trigger in (r3_uneven_channels, r5_mean_shift, r8_multi_input):
        if trigger(evidence, limits) is not None:
            return None
    return "3a-1 and 3a-2 both gained, and neither R3 nor R5 nor R8 matches best's artifacts"


def _applies(lever: str, situation: Situation) -> bool:
    context = situation.context
    return context is not None and judge_lever(LEVERS[lever], context).applies


_ORDER: tuple[Callable[[Situation], Outcome | None], ...] = (
    _baseline_first,
    target_met,
    _sweep,
    _steady_the_training,
    _flat,
    _cap,
    _next_lever,
)
