"""All iterations of an output folder, ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from espdl_quantize.core import Direction, Priority, Verdict
from espdl_quantize.record._noise import Noise
from espdl_quantize.record.cost import EQUAL_TIMES, Budgets
from espdl_quantize.record.iteration_record import Iteration
from espdl_quantize.record.prices import Prices
from espdl_quantize.setting import DEFAULT_BITS, baseline, setting_key
from espdl_quantize.stats import Comparison

DEFAULT_DIRECTION = Direction.MAX
"""Taken where no folder says which way the metric goes; the history then carries a warning."""

NO_LOSS = "quantization loses nothing measurable on these samples"
"""Said where the baseline is not below the float model, or not by more than chance."""


@dataclass(frozen=True)
class FinalScore:
    """The final score of one iteration, which took no part in the search.

    Attributes:
        score: in the form of an iteration: its value, samples and signals are of the final data.
        same_model: whether the graph that was scored exports to the iteration's model, byte for
            byte; None where the iteration's model is not there.
    """

    score: Iteration
    same_model: bool | None


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
        stated_budgets: what a caller bounds; None takes what the iterations carry.
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
    stated_budgets: Budgets | None = None

    @cached_property
    def scored(self) -> tuple[Iteration, ...]:
        """The iterations with a finite value."""
        return tuple(record for record in self.iterations if record.value is not None)

    @cached_property
    def failed(self) -> tuple[Iteration, ...]:
        """The iterations that should have a finite value, and have none."""
        return tuple(
            record
            for record in self.iterations
            if record.value is None and not record.is_without_effect
        )

    @cached_property
    def effective(self) -> tuple[Iteration, ...]:
        """The iterations whose quantized graph is not that of an earlier one."""
        return tuple(record for record in self.iterations if not record.is_without_effect)

    @cached_property
    def latest(self) -> Iteration | None:
        """The iteration with the highest id."""
        return self.iterations[-1] if self.iterations else None

    @cached_property
    def metric(self) -> str | None:
        """Name of the primary metric, from the first finite iteration."""
        records = (*self.scored, *self.iterations)
        return next((record.metric for record in records if record.metric is not None), None)

    @cached_property
    def direction(self) -> Direction:
        """Which way the metric goes, from the first finite iteration."""
        records = (*self.scored, *self.iterations)
        return next((record.direction for record in records if record.direction), DEFAULT_DIRECTION)

    @cached_property
    def target(self) -> float | None:
        """The value to reach, from the latest iteration: a contract may be edited on the way.

        Where a drop is stated in its place, it is that far from the float model's score.
        """
        stated = self.stated_budgets
        if self.latest is None:
            return None
        if self.latest.target is not None and (stated is None or stated.max_drop is None):
            return self.latest.target
        scored = self.scored[-1] if self.scored else None
        if scored is None:
            return None
        reference = self.float_value(scored)
        return self.budgets.target(reference, Direction(self.direction), scored.metric_unit)

    @cached_property
    def budgets(self) -> Budgets:
        """What the model may cost and lose: as stated, else from the latest iteration."""
        if self.stated_budgets is not None:
            return self.stated_budgets
        return (self.latest.budgets if self.latest else None) or Budgets()

    @cached_property
    def unknown_budgets(self) -> tuple[str, ...]:
        """The keys of the budgets that no scored iteration says anything of."""
        return tuple(
            name
            for name in self.budgets.bounds
            if self.scored and all(record.spent[name] is None for record in self.scored)
        )

    def excess(self, record: Iteration) -> float | None:
        """Return by which share a model is beyond its budgets, at most; 0 where it keeps them.

        None where it is not known. Budgets of what no iteration knows bind none.
        """
        worst = 0.0
        for name, bound in self.budgets.bounds.items():
            spent = record.spent[name]
            if name in self.unknown_budgets:
                continue
            if spent is None:
                return None
            worst = max(worst, spent / bound - 1)
        return worst

    def keeps_budgets(self, record: Iteration) -> bool:
        """Tell whether a model is known to keep the budgets that can be judged."""
        return self.excess(record) == 0

    def _eligible(self, records: tuple[Iteration, ...]) -> tuple[Iteration, ...]:
        """Return those that keep the budgets; else the nearest: files differ by a few bytes."""
        if not self.budgets.bounds:
            return records
        known = [
            (excess, record) for record in records if (excess := self.excess(record)) is not None
        ]
        if not known:
            return records
        least = min(excess for excess, _ in known)
        most = least + (EQUAL_TIMES * (1 + least) if least > 0 else 0)
        return tuple(record for excess, record in known if excess <= most)

    @cached_property
    def priority(self) -> Priority:
        """The contract's deploy_runtime_priority, from the latest iteration that states it."""
        records = reversed(self.iterations)
        return next(
            (
                record.deploy_runtime_priority
                for record in records
                if record.deploy_runtime_priority
            ),
            Priority.BALANCED,
        )

    @cached_property
    def num_of_bits(self) -> int | None:
        """The contract's default width, from the latest iteration that states it."""
        records = reversed(self.iterations)
        return next((record.num_of_bits for record in records if record.num_of_bits), None)

    @cached_property
    def top(self) -> Iteration | None:
        """The finite iteration with the best score; a tie goes to the smaller id.

        Under budgets it is the best of those that keep them.
        """
        return self._top(self._eligible(self.scored))

    @cached_property
    def best(self) -> Iteration | None:
        """The iteration to deploy: :attr:`top`, or what cannot be told from it and is cheaper.

        Of those that are within noise of the top it is the one with the fewest milliseconds on the
        chip, or the fewest slower ops where these are not known of all; of equal ones the highest
        score, then the earlier, unless another has less noise at its outputs beyond chance
        (:meth:`Noise.is_quieter`). Where no noise is known it is the top.

        Under budgets, only those are looked at that keep them. Where none does, it is the nearest,
        which :meth:`keeps_budgets` tells.
        """
        return self._pick(self.scored)

    @cached_property
    def near_top(self) -> tuple[Iteration, ...]:
        """The iterations that cannot be told from the top, itself among them."""
        return () if self.top is None else self._near(self.top, self._eligible(self.scored))

    @cached_property
    def ranks(self) -> Mapping[int, int | None]:
        """Dense ranks by id, 1 = best; None for a failed iteration."""
        heights = sorted({self.height(record) for record in self.scored}, reverse=True)
        order = {height: rank for rank, height in enumerate(heights, start=1)}
        return {
            record.id: None if record.value is None else order[self.height(record)]
            for record in self.iterations
        }

    @cached_property
    def prior_best(self) -> Mapping[int, Iteration | None]:
        """The best iteration before each one, by id."""
        return {
            record.id: self._pick(
                tuple(each for each in self.iterations[:at] if each.value is not None)
            )
            for at, record in enumerate(self.iterations)
        }

    def took_over(self, record: Iteration) -> bool:
        """Tell whether ``record`` became the best when it came."""
        return self.upto(self.iterations.index(record) + 1).best is record

    def versus(self, record: Iteration, other: Iteration | None) -> Comparison | None:
        """Hold ``record`` against ``other``; None where nothing tells a difference from chance."""
        return None if other is None else self.noise.compare(record, other, self.direction)

    def is_chance(self, record: Iteration, other: Iteration) -> bool:
        """Tell whether nothing speaks for a difference between two iterations.

        Where the metric's noise is not known, the noise at the outputs has to tell them apart,
        sample by sample; where that is not known either, any difference of the metric counts.
        """
        if record is other:
            return True
        comparison = self.versus(record, other)
        if comparison is None:
            comparison = self.noise.compare_signal(record, other)
        return comparison is not None and comparison.verdict == Verdict.WITHIN_NOISE

    @cached_property
    def selection_bias(self) -> float | None:
        """How much better best is expected to look for having been chosen of all scored ones."""
        return self.noise.selection_bias(self.best, self.scored, self.direction)

    def final_versus_baseline(self) -> Comparison | None:
        """Hold the final score of best against that of the baseline, where both were taken."""
        if self.best is None or self.baseline is None or self.best is self.baseline:
            return None
        best, first = (self.finals.get(record.id) for record in (self.best, self.baseline))
        if best is None or first is None:
            return None
        return self.final_noise.compare(best.score, first.score, self.direction)

    def _top(self, records: tuple[Iteration, ...]) -> Iteration | None:
        return min(records, key=lambda record: (-self.height(record), record.id), default=None)

    def _near(self, top: Iteration, records: tuple[Iteration, ...]) -> tuple[Iteration, ...]:
        return tuple(record for record in records if record is top or self._is_tie(record, top))

    def _is_tie(self, record: Iteration, other: Iteration) -> bool:
        comparison = self.versus(record, other)
        return comparison is not None and comparison.verdict == Verdict.WITHIN_NOISE

    def _pick(self, records: tuple[Iteration, ...]) -> Iteration | None:
        records = self._eligible(records)
        top = self._top(records)
        return (
            None if top is None else self._quietest(self.prices.cheapest(self._near(top, records)))
        )

    @cached_property
    def prices(self) -> Prices:
        """What the iterations cost on the chip, against each other and against the baseline."""
        return Prices(self.iterations, self.baseline, self.num_of_bits)

    @cached_property
    def front(self) -> tuple[Iteration, ...]:
        """The iterations that no other beats in both score and predicted time, quickest first.

        Those over the budgets are left out as long as any keeps them. Of equals the one that is
        best stands for all. Empty where the times are not known.
        """
        timed = [
            (time, record)
            for record in self._eligible(self.scored)
            if (time := self.prices.time(record)) is not None
        ]
        timed.sort(key=lambda pair: (-self.height(pair[1]), pair[1] is not self.best, pair[0]))
        front: list[tuple[float, Iteration]] = []
        for time, record in timed:
            # From the highest score down: only what is quicker than all before has a place.
            if all(time * (1 + EQUAL_TIMES) < other for other, _ in front):
                front.append((time, record))
        return tuple(record for _, record in reversed(front))

    @cached_property
    def cheapest_near_best(self) -> Iteration | None:
        """The quickest that is best within noise; None where it is best, or none is known."""
        best = self.best
        time = None if best is None else self.prices.time(best)
        if best is None or time is None:
            return None
        quicker = tuple(
            record
            for record in self._near(best, self._eligible(self.scored))
            if (its := self.prices.time(record)) is not None and its * (1 + EQUAL_TIMES) < time
        )
        return self._top(self.prices.cheapest(quicker)) if quicker else None

    def _quietest(self, records: tuple[Iteration, ...]) -> Iteration | None:
        quietest, challenger = None, self._top(records)
        while challenger is not None:
            quietest = challenger
            # Only what is quieter than the one before goes on, so this ends.
            records = self._quieter_than(quietest, records)
            challenger = self._top(records)
        return quietest

    def _quieter_than(
        self, held: Iteration, records: tuple[Iteration, ...]
    ) -> tuple[Iteration, ...]:
        return tuple(
            record for record in records if record is not held and self.is_quieter(record, held)
        )

    def is_quieter(self, record: Iteration, other: Iteration) -> bool:
        """Tell whether ``record`` has less noise at its outputs than ``other``, beyond chance."""
        return self.noise.is_quieter(record, other)

    @property
    def next_id(self) -> int:
        """One above every id that is taken."""
        return max([*(record.id for record in self.iterations), *self.reserved_ids], default=-1) + 1

    def height(self, record: Iteration) -> float:
        """Return the value of a record, turned so that more is better; minus infinity if failed."""
        if record.value is None:
            return float("-inf")
        return record.value if self.direction == Direction.MAX else -record.value

    def gap_to(self, record: Iteration, value: float) -> float:
        """Return how far ``record`` is behind ``value``, positive = behind."""
        return (value if self.direction == Direction.MAX else -value) - self.height(record)

    def gain(self, record: Iteration) -> float | None:
        """Return how much ``record`` added to the best before it, positive = better.

        A difference that is within noise is none, see :meth:`is_chance`.
        """
        prior = self.prior_best[record.id]
        if record.value is None or prior is None:
            return None
        if self.is_chance(record, prior):
            return 0.0
        return self.height(record) - self.height(prior)

    def meets(self, record: Iteration, target: float | None) -> bool:
        """Tell whether ``record`` reaches ``target``."""
        if record.value is None or target is None:
            return False
        return record.value >= target if self.direction == Direction.MAX else record.value <= target

    def float_value(self, record: Iteration) -> float | None:
        """Return the float model's score by the function that scored ``record``."""
        if record.float_value is not None:
            return record.float_value
        return self.float_scores.get(record.evaluated_by or "")

    @cached_property
    def baseline(self) -> Iteration | None:
        """The first scored iteration with esp-ppq's default setting, else the first scored one.

        What the default is depends on the width: kl calibration at 8 bits, minmax at 16.
        """
        plain = setting_key(baseline(num_of_bits=self.num_of_bits or DEFAULT_BITS))
        first = (
            record
            for record in self.scored
            if record.setting and setting_key(record.setting) == plain
        )
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
        return next((record for record in self.iterations if record.id == iteration_id), None)
