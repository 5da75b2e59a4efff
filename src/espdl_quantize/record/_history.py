"""All iterations of an output folder, ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from espdl_quantize.record._final import FinalScore
from espdl_quantize.record._iteration import Direction, Iteration, Priority
from espdl_quantize.record._noise import Noise
from espdl_quantize.setting import DEFAULT_BITS, baseline, runtime_cost, setting_key
from espdl_quantize.stats import Comparison

DEFAULT_DIRECTION: Direction = "max"
"""Taken where no folder says which way the metric goes; the history then carries a warning."""

NO_LOSS = "quantization loses nothing measurable on these images"
"""Said where the baseline is not below the float model, or not by more than chance."""


@dataclass(frozen=True)
class HistoryWarning:
    """Something in the output folder that the reader of a ranking should know.

    Attributes:
        kind: a fixed word per cause, such as "direction" or "half-written".
        text: the thing, what was found, and what follows from it.
        iteration_id: the iteration it concerns, if one.
    """

    kind: str
    text: str
    iteration_id: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class History:
    """The iterations by id, and everything that follows from them.

    Attributes:
        iterations: ascending by id; folders that could not be read are absent, and so are those
            of another chip, contract or model.
        folder: the output folder.
        warnings: see :class:`HistoryWarning`.
        reserved_ids: ids of folders that hold work but are no iteration yet.
        float_scores: the float model's primary value by the function that scored it.
        excluded: iterations that cannot be ranked with the others; a warning says why.
        finals: by id, scores that took no part in the search.
        noise: tells a difference from chance, as far as the folders say what chance does.
        final_noise: the same of the final scores.
    """

    iterations: tuple[Iteration, ...] = ()
    folder: Path = Path()
    warnings: tuple[HistoryWarning, ...] = ()
    reserved_ids: tuple[int, ...] = ()
    float_scores: Mapping[str, float] = field(default_factory=dict)
    excluded: tuple[Iteration, ...] = ()
    finals: Mapping[int, FinalScore] = field(default_factory=dict)
    final_noise: Noise = field(default_factory=Noise, compare=False, repr=False)
    noise: Noise = field(default_factory=Noise, compare=False, repr=False)

    @cached_property
    def scored(self) -> tuple[Iteration, ...]:
        """The iterations with a finite value."""
        return tuple(row for row in self.iterations if row.value is not None)

    @cached_property
    def failed(self) -> tuple[Iteration, ...]:
        """The iterations without a finite value."""
        return tuple(row for row in self.iterations if row.value is None)

    @cached_property
    def latest(self) -> Iteration | None:
        """The iteration with the highest id."""
        return self.iterations[-1] if self.iterations else None

    @cached_property
    def metric(self) -> str | None:
        """Name of the primary metric, from the first finite iteration."""
        rows = (*self.scored, *self.iterations)
        return next((row.metric for row in rows if row.metric is not None), None)

    @cached_property
    def direction(self) -> Direction:
        """Which way the metric goes, from the first finite iteration."""
        rows = (*self.scored, *self.iterations)
        return next((row.direction for row in rows if row.direction), DEFAULT_DIRECTION)

    @cached_property
    def target(self) -> float | None:
        """The value to reach, from the latest iteration: a contract may be edited on the way."""
        return self.latest.target if self.latest else None

    @cached_property
    def priority(self) -> Priority:
        """The contract's deploy_runtime_priority, from the latest iteration that states it."""
        rows = reversed(self.iterations)
        return next(
            (row.deploy_runtime_priority for row in rows if row.deploy_runtime_priority), "balanced"
        )

    @cached_property
    def num_of_bits(self) -> int | None:
        """The contract's default width, from the latest iteration that states it."""
        rows = reversed(self.iterations)
        return next((row.num_of_bits for row in rows if row.num_of_bits), None)

    @cached_property
    def top(self) -> Iteration | None:
        """The finite iteration with the best score; a tie goes to the smaller id."""
        return self._top(self.scored)

    @cached_property
    def best(self) -> Iteration | None:
        """The iteration to deploy: :attr:`top`, or what cannot be told from it and is cheaper.

        Of those that are within noise of the top it is the one with the fewest slower ops on the
        chip; of equal ones the highest score, then the earlier, unless another has less noise at
        its outputs beyond chance (:meth:`Noise.is_quieter`). Where no noise is known it is the top.
        """
        return self._pick(self.scored)

    @cached_property
    def near_top(self) -> tuple[Iteration, ...]:
        """The iterations that cannot be told from the top, itself among them."""
        return () if self.top is None else self._near(self.top, self.scored)

    @cached_property
    def ranks(self) -> Mapping[int, int | None]:
        """Dense ranks by id, 1 = best; None for a failed iteration."""
        heights = sorted({self.height(row) for row in self.scored}, reverse=True)
        order = {height: rank for rank, height in enumerate(heights, start=1)}
        return {
            row.id: None if row.value is None else order[self.height(row)]
            for row in self.iterations
        }

    @cached_property
    def prior_best(self) -> Mapping[int, Iteration | None]:
        """The best iteration before each one, by id."""
        return {
            row.id: self._pick(tuple(one for one in self.iterations[:at] if one.value is not None))
            for at, row in enumerate(self.iterations)
        }

    def took_over(self, row: Iteration) -> bool:
        """Tell whether ``row`` became the best when it came."""
        return self.upto(self.iterations.index(row) + 1).best is row

    def versus(self, row: Iteration, other: Iteration | None) -> Comparison | None:
        """Hold ``row`` against ``other``; None where nothing tells a difference from chance."""
        return None if other is None else self.noise.compare(row, other, self.direction)

    def final_versus_baseline(self) -> Comparison | None:
        """Hold the final score of best against that of the baseline, where both were taken."""
        rows = (self.best, self.baseline)
        found = [self.finals.get(row.id) for row in rows if row is not None]
        if len(found) < 2 or found[0] is None or found[1] is None or found[0] is found[1]:
            return None
        return self.final_noise.compare(found[0].score, found[1].score, self.direction)

    def _top(self, rows: tuple[Iteration, ...]) -> Iteration | None:
        return min(rows, key=lambda row: (-self.height(row), row.id), default=None)

    def _near(self, top: Iteration, rows: tuple[Iteration, ...]) -> tuple[Iteration, ...]:
        return tuple(row for row in rows if row is top or self._is_chance(row, top))

    def _is_chance(self, row: Iteration, other: Iteration) -> bool:
        found = self.versus(row, other)
        return found is not None and found.verdict == "within noise"

    def _pick(self, rows: tuple[Iteration, ...]) -> Iteration | None:
        top = self._top(rows)
        if top is None:
            return None
        near = self._near(top, rows)
        cheapest = min(_cost(row) for row in near)
        return self._quietest(tuple(row for row in near if _cost(row) == cheapest))

    def _quietest(self, rows: tuple[Iteration, ...]) -> Iteration | None:
        found = self._top(rows)
        while found is not None:
            held = found
            # Only what is quieter than the one before goes on, so this ends.
            rows = tuple(row for row in rows if row is not held and self.is_quieter(row, held))
            found = self._top(rows)
            if found is None:
                return held
        return None

    def is_quieter(self, row: Iteration, other: Iteration) -> bool:
        """Tell whether ``row`` has less noise at its outputs than ``other``, beyond chance."""
        return self.noise.is_quieter(row, other)

    @property
    def next_id(self) -> int:
        """One above every id that is taken."""
        return max([*(row.id for row in self.iterations), *self.reserved_ids], default=-1) + 1

    def height(self, row: Iteration) -> float:
        """Return the value of ``row``, turned so that more is better; minus infinity if failed."""
        if row.value is None:
            return float("-inf")
        return row.value if self.direction == "max" else -row.value

    def gap_to(self, row: Iteration, value: float) -> float:
        """Return how far ``row`` is behind ``value``, positive = behind."""
        return (value if self.direction == "max" else -value) - self.height(row)

    def gain(self, row: Iteration) -> float | None:
        """Return how much ``row`` added to the best before it, positive = better.

        A difference that is within noise is none.
        """
        prior = self.prior_best[row.id]
        if row.value is None or prior is None:
            return None
        if self._is_chance(row, prior):
            return 0.0
        return self.height(row) - self.height(prior)

    def meets(self, row: Iteration, target: float | None) -> bool:
        """Tell whether ``row`` reaches ``target``."""
        if row.value is None or target is None:
            return False
        return row.value >= target if self.direction == "max" else row.value <= target

    def float_value(self, row: Iteration) -> float | None:
        """Return the float model's score by the function that scored ``row``."""
        if row.float_value is not None:
            return row.float_value
        return self.float_scores.get(row.evaluated_by or "")

    @cached_property
    def baseline(self) -> Iteration | None:
        """The first scored iteration with esp-ppq's default setting, else the first scored one.

        What the default is depends on the width: kl calibration at 8 bits, minmax at 16.
        """
        plain = setting_key(baseline(num_of_bits=self.num_of_bits or DEFAULT_BITS))
        first = (row for row in self.scored if row.setting and setting_key(row.setting) == plain)
        return next(first, next(iter(self.scored), None))

    @cached_property
    def gap_closed(self) -> float | None:
        """Share of the drop from the float model to the baseline that best has won back.

        Above 1 where best is above the float model. None where :attr:`no_gap` says why.
        """
        best, first = self.best, self.baseline
        if self.no_gap is not None or best is None or first is None or best.value is None:
            return None
        reference = self.float_value(first)
        if reference is None or first.value is None:
            return None
        return (best.value - first.value) / (reference - first.value)

    @cached_property
    def no_gap(self) -> str | None:
        """Why there is no share of a drop to tell; None where there is a drop to measure by."""
        first = self.baseline
        if first is None or first.value is None:
            return "no iteration has a score"
        reference = self.float_value(first)
        if reference is None:
            return "the float model's score is not known"
        if self.gap_to(first, reference) > 0 and not self.noise.is_chance_drop(first, reference):
            return None
        return NO_LOSS

    def upto(self, count: int) -> History:
        """Return the history as it was after its first ``count`` iterations."""
        return replace(self, iterations=self.iterations[:count])

    def get(self, iteration_id: int) -> Iteration | None:
        """Return the iteration with this id, if there is one."""
        return next((row for row in self.iterations if row.id == iteration_id), None)


def _cost(row: Iteration) -> float:
    return float("inf") if row.setting is None else runtime_cost(row.setting).slower_ops
