"""How long an iteration takes on the PC, from those that were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import median

from espdl_quantize.core import Engine, Stage, describe_seconds
from espdl_quantize.record import History, Iteration
from espdl_quantize.setting import BLOCK_PASSES, PASSES, TRAINING_PASSES, Setting, canonical

_ONCE = (Stage.EXAMINE, Stage.SCORE_FLOAT_MODEL)
"""Stages that only the first iteration of a folder goes through."""
_FORWARD = Stage.RUN_ONE_BATCH
"""The stage that takes one forward of the float model on a calibration batch."""

_FORWARDS_PER_STEP: Mapping[str, Mapping[str, float]] = {
    engine: {
        name: spec.forwards_per_step[engine]
        for name, spec in PASSES.items()
        if spec.forwards_per_step
    }
    for engine in Engine
}
"""What one step of a pass over all blocks takes, in forwards of the float model on one batch."""

_UNTRAINED = tuple(name for name in BLOCK_PASSES if name not in TRAINING_PASSES)
"""Passes with steps whose rate is not measured: it is small, and part of a plain iteration's time
once one had it."""

_FIRST_TRAINING: Mapping[str, float] = {Engine.FAST: 5.0, Engine.REFERENCE: 0.0}
"""Seconds in which the engine compiles what training needs."""


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of one iteration.

    Attributes:
        seconds: the estimate.
        complete: False where a part of it was never measured: it takes at least this long, or,
            where ``derived`` is set, roughly.
        derived: what was never measured is derived from how long one forward takes.
    """

    seconds: float
    complete: bool = field(default=True, kw_only=True)
    derived: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        about = "about" if self.complete else "roughly" if self.derived else "at least"
        return f"{about} {describe_seconds(self.seconds)}"

    def times(self, count: int) -> TimeEstimate:
        """Return the estimate of so many alike."""
        return replace(self, seconds=self.seconds * count)


class TimeModel:
    """An untrained iteration costs what the last ones cost; training costs a rate per step.

    The rate of a training pass is the median over the last three iterations that ran it, of what
    they took beyond an untrained one, over their steps. A pass that was never run is derived from
    the forward of one batch, whose multiple it is, and from how far that was off for a pass that
    was run; without that time, it is taken to be as fast as another pass.
    """

    def __init__(self, history: History) -> None:
        iterations = [
            iteration
            for iteration in history.scored
            if iteration.setting and _net_seconds(iteration) is not None
        ]
        plain = [_known(iteration) for iteration in iterations if not _steps(iteration)]
        every = [_known(iteration) for iteration in iterations]
        self._has_plain = bool(plain)
        self._plain = median(plain[-3:]) if plain else min(every, default=None)
        self._rates = dict(self._measure(iterations))
        forwards = [iteration.elapsed_by_stage.get(_FORWARD, 0.0) for iteration in iterations]
        known = [seconds for seconds in forwards if seconds > 0]
        self._forward = median(known[-3:]) if known else None
        self._engine = iterations[-1].engine if iterations else None
        settings = [iteration.setting for iteration in iterations if iteration.setting is not None]
        self._run = {name for setting in settings for name in canonical(setting)}

    def _measure(self, iterations: list[Iteration]) -> Iterator[tuple[str, float]]:
        rates: dict[str, float] = {}
        for name in TRAINING_PASSES:
            measured = []
            for iteration in iterations:
                steps = _steps(iteration)
                if name not in steps or self._plain is None:
                    continue
                others = [other for other in steps if other != name]
                if any(other not in rates for other in others):
                    continue
                beyond = _known(iteration) - self._plain
                beyond -= sum(steps[other] * rates[other] for other in others)
                measured.append(max(beyond, 0.0) / steps[name])
            if measured:
                rates[name] = median(measured[-3:])
                yield name, rates[name]

    @property
    def knows_training(self) -> bool:
        """Return whether any training pass was measured."""
        return bool(self._rates) and self._has_plain

    def estimate(self, setting: Setting) -> TimeEstimate | None:
        """Estimate one iteration; None where none was measured yet."""
        if self._plain is None:
            return None
        seconds, complete, derived = self._plain, self._has_plain, True
        training = _training_steps(setting)
        for name, steps in training.items():
            rate = self._rates.get(name)
            if rate is None:
                complete = False
                rate = self._derived_rate(name)
                if rate is None:
                    derived = False
                    rate = max(self._rates.values(), default=0.0)
            seconds += steps * rate
        if training and not self._rates and self._forward is not None:
            seconds += _FIRST_TRAINING.get(self._engine or "", 0.0)
        for name in _UNTRAINED:
            if name not in self._run:
                steps = canonical(setting).get(name, {}).get("steps", 0)
                seconds += steps * (self._derived_rate(name) or 0.0)
        is_derived = derived and not complete and self._has_plain
        return TimeEstimate(seconds, complete=complete, derived=is_derived)

    def _derived_rate(self, name: str) -> float | None:
        """Return the seconds of a step of a pass that was never run, None where nothing tells."""
        forwards = _FORWARDS_PER_STEP.get(self._engine or "", {})
        if self._forward is None or name not in forwards:
            return None
        expected = {known: forwards[known] * self._forward for known in self._rates}
        off = [self._rates[known] / expected[known] for known in expected]
        return forwards[name] * self._forward * (max(off) if off else 1.0)


def _training_steps(setting: Setting) -> dict[str, int]:
    form = canonical(setting)
    return {name: form[name]["steps"] for name in TRAINING_PASSES if name in form}


def _steps(iteration: Iteration) -> dict[str, int]:
    return _training_steps(iteration.setting) if iteration.setting is not None else {}


def _net_seconds(iteration: Iteration) -> float | None:
    if iteration.elapsed_seconds is None:
        return None
    # What was taken from an earlier iteration may have to be computed in the next one.
    spent = iteration.elapsed_seconds + iteration.seconds_saved
    once = sum(iteration.elapsed_by_stage.get(stage, 0.0) for stage in _ONCE)
    return max(spent - once, 0.0)


def _known(iteration: Iteration) -> float:
    return _net_seconds(iteration) or 0.0
