"""The order that the rules of the search see: by the metric, or by a signal of the outputs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from espdl_quantize.core import Direction
from espdl_quantize.core.enums import Word
from espdl_quantize.record import History, Iteration, signals_that_count
from espdl_quantize.stats import Comparison


class RankBy(Word):
    """The metric; the noise at the outputs; or how often they decide as the float model does."""

    METRIC = "metric"
    NOISE = "noise"
    AGREEMENT = "agreement"


_NAMES = {RankBy.NOISE: "output noise:signal", RankBy.AGREEMENT: "agreement with float"}


@dataclass(frozen=True)
class RankedBySignal(History):
    """The same iterations in the order of a signal; each keeps the value that it scored.

    The signal has a direction and a noise of its own, and neither a target nor a float value.
    """

    signal: RankBy = RankBy.NOISE

    @cached_property
    def metric(self) -> str | None:
        """Name of the signal."""
        return _NAMES[self.signal]

    @cached_property
    def direction(self) -> Any:
        """Return which way the signal goes."""
        return Direction.MIN if self.signal is RankBy.NOISE else Direction.MAX

    @cached_property
    def target(self) -> float | None:
        """Return None: the contract's target is one of the metric."""
        return None

    def height(self, iteration: Iteration) -> float:
        """Return the signal of ``iteration``, turned so that more is better."""
        value = None if iteration.value is None else signal_of(iteration, self.signal)
        if value is None:
            return float("-inf")
        return -value if self.signal is RankBy.NOISE else value

    def versus(self, iteration: Iteration, other: Iteration | None) -> Comparison | None:
        """Compare the noise at the outputs sample by sample; of the agreement none is known."""
        if other is None or self.signal is not RankBy.NOISE:
            return None
        return self.noise.compare_signal(iteration, other)

    def float_value(self, iteration: Iteration) -> float | None:
        """Return None: the signals are measured against the float model."""
        return None


def ranked(history: History, rank_by: RankBy) -> History:
    """Return the history in the order that the rules of the search are to see.

    Where a scored iteration has no such signal, nothing can be ranked by it, and the order is that
    of the metric.
    """
    if rank_by is RankBy.METRIC or any(
        signal_of(iteration, rank_by) is None for iteration in history.scored
    ):
        return history
    kept = {item.name: getattr(history, item.name) for item in fields(History)}
    return RankedBySignal(**kept, signal=rank_by)


def ranked_value(history: History, iteration: Iteration) -> float | None:
    """Return what ``iteration`` is ranked by, as it was measured; None where it failed."""
    if iteration.value is None:
        return None
    height = history.height(iteration)
    return height if Direction(history.direction) is Direction.MAX else -height


def signal_of(iteration: Iteration, rank_by: RankBy) -> float | None:
    """Return the signal that an iteration left at its outputs."""
    signals = signals_that_count(iteration)
    if signals is None:
        return None
    return signals.noise_signal if rank_by is RankBy.NOISE else signals.agreement
