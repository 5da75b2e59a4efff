"""Searching by a signal of the outputs in the place of the metric, which stays the judge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from espdl_quantize.record import Direction, History, Iteration, Noise
from espdl_quantize.stats import Comparison, Interval

SearchBy = Literal["metric", "noise", "agreement"]
"""The metric; the noise at the outputs; or how often they decide as the float model does."""

_NAMES = {"noise": "output noise:signal", "agreement": "agreement with float"}


@dataclass
class _SignalNoise(Noise):
    """Tells a difference of the noise at the outputs from chance, sample by sample."""

    by: SearchBy = "noise"
    known: Noise | None = None

    def interval(self, row: Iteration) -> Interval | None:
        """Return None: there is no table that shows one."""
        return None

    def compare(self, row: Iteration, other: Iteration, direction: Direction) -> Comparison | None:
        """Compare the signals."""
        if self.by != "noise" or self.known is None:
            return None
        return self.known.compare_signal(row, other)


def searched(history: History, by: SearchBy) -> History:
    """Return the history as the rules of the search are to see it.

    Every value is that of the signal, with its own direction and without the metric's target. Where
    a scored iteration has no such signal, nothing can be ranked by it, and the history stays.
    """
    if by == "metric" or any(_signal(row, by) is None for row in history.scored):
        return history
    direction = Direction.MIN if by == "noise" else Direction.MAX
    rows = tuple(
        replace(
            row,
            value=None if row.value is None else _signal(row, by),
            metric=_NAMES[by],
            direction=direction,
            target=None,
            float_value=None,
        )
        for row in history.iterations
    )
    noise = _SignalNoise(by=by, known=history.noise)
    return replace(history, iterations=rows, float_scores={}, noise=noise)


def _signal(row: Iteration, by: SearchBy) -> float | None:
    if row.signals is None:
        return None
    return row.signals.noise_signal if by == "noise" else row.signals.agreement
