"""How long an iteration takes on the PC, from those that were measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from espdl_quantize.history import History, Iteration
from espdl_quantize.setting import Setting, canonical

_TRAINING = ("tqt_optimization", "lsq_optimization", "blockwise_reconstruction")
_ONCE = "score float model"
"""A stage that only the first iteration of a folder goes through."""


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of one iteration.

    Attributes:
        seconds: the estimate.
        complete: False where a part of it was never measured, so that it takes at least this long.
    """

    seconds: float
    complete: bool = True

    def __str__(self) -> str:
        return f"{'about' if self.complete else 'at least'} {describe_seconds(self.seconds)}"


class TimeModel:
    """An untrained iteration costs what the last ones cost; training costs a rate per step.

    The rate of a training pass is the median over the last three iterations that ran it, of what
    they took beyond an untrained one, over their steps. A pass that was never run is taken to be as
    fast as another one that was.
    """

    def __init__(self, history: History) -> None:
        rows = [row for row in history.scored if row.setting and _net_seconds(row) is not None]
        plain = [_known(row) for row in rows if not _steps(row)]
        every = [_known(row) for row in rows]
        self._has_plain = bool(plain)
        self._plain = median(plain[-3:]) if plain else min(every, default=None)
        self._rates = dict(self._measure(rows))

    def _measure(self, rows: list[Iteration]) -> Iterator[tuple[str, float]]:
        rates: dict[str, float] = {}
        for name in _TRAINING:
            found = []
            for row in rows:
                steps = _steps(row)
                if name not in steps or self._plain is None:
                    continue
                others = [other for other in steps if other != name]
                if any(other not in rates for other in others):
                    continue
                beyond = _known(row) - self._plain
                beyond -= sum(steps[other] * rates[other] for other in others)
                found.append(max(beyond, 0.0) / steps[name])
            if found:
                rates[name] = median(found[-3:])
                yield name, rates[name]

    @property
    def knows_training(self) -> bool:
        """Return whether any training pass was measured."""
        return bool(self._rates) and self._has_plain

    def estimate(self, setting: Setting) -> TimeEstimate | None:
        """Estimate one iteration; None where none was measured yet."""
        if self._plain is None:
            return None
        seconds, complete = self._plain, self._has_plain
        for name, steps in _training_steps(setting).items():
            rate = self._rates.get(name)
            if rate is None:
                complete = False
                rate = max(self._rates.values(), default=0.0)
            seconds += steps * rate
        return TimeEstimate(seconds, complete)


def describe_seconds(seconds: float) -> str:
    """Write a duration with at most two units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _training_steps(setting: Setting) -> dict[str, int]:
    form = canonical(setting)
    return {name: form[name]["steps"] for name in _TRAINING if name in form}


def _steps(row: Iteration) -> dict[str, int]:
    return _training_steps(row.setting) if row.setting is not None else {}


def _net_seconds(row: Iteration) -> float | None:
    if row.elapsed_seconds is None:
        return None
    # What was taken from an earlier iteration may have to be computed in the next one.
    spent = row.elapsed_seconds + row.seconds_saved
    return max(spent - row.elapsed_by_stage.get(_ONCE, 0.0), 0.0)


def _known(row: Iteration) -> float:
    return _net_seconds(row) or 0.0
