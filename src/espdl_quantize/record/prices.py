"""What iterations cost on the chip, against each other and against the plain quantized model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from espdl_quantize.record.cost import EQUAL_TIMES
from espdl_quantize.record.iteration_record import Iteration
from espdl_quantize.setting import RuntimeCost, runtime_cost


@dataclass(frozen=True)
class Prices:
    """Reads costs from the exported files, and from the settings where nobody looked at a file.

    Attributes:
        iterations: all of a folder.
        plain: the baseline, which the others are held against.
        num_of_bits: the contract's default width.
    """

    iterations: tuple[Iteration, ...]
    plain: Iteration | None
    num_of_bits: int | None

    @cached_property
    def chip(self) -> str | None:
        """The chip that the costs are of: times of another do not compare."""
        chips = (record.cost.chip for record in self.iterations if record.cost and record.cost.chip)
        return next(chips, None)

    def time(self, record: Iteration) -> float | None:
        """Return the predicted time of one inference; None where it does not compare.

        It is in milliseconds, or in a unit of the chip's own where nothing is published of it.
        """
        cost = record.cost
        return cost.time or None if cost is not None and cost.chip == self.chip else None

    def of(self, record: Iteration) -> RuntimeCost | None:
        """Name what an iteration costs the chip more than the plain model; None where unknown."""
        asked = None if record.setting is None else runtime_cost(record.setting)
        cost, plain = record.cost, self.plain
        if cost is None or not cost.layers:
            return asked
        wide, more = cost.wide_ops, None
        if plain is not None and plain.cost is not None and plain.cost.layers:
            usual = set(plain.cost.wide_ops)
            wide = tuple(op for op in wide if op not in usual)
            time, before = self.time(record), self.time(plain)
            if time is not None and before is not None and plain.id != record.id:
                more = time / before - 1
        elif self.num_of_bits == 16:
            wide = ()
        return RuntimeCost(wide, () if asked is None else asked.added, more)

    def slower_ops(self, record: Iteration) -> float:
        """Return how many ops are slower than in the plain model; infinite where unknown."""
        price = self.of(record)
        return float("inf") if price is None else price.slower_ops

    def cheapest(self, records: tuple[Iteration, ...]) -> tuple[Iteration, ...]:
        """Return those that cost the chip least: by time where all are known, else by slower ops.

        Times within :data:`EQUAL_TIMES` are equal.
        """
        times = [time for record in records if (time := self.time(record)) is not None]
        if len(times) == len(records):
            limit = min(times, default=0.0) * (1 + EQUAL_TIMES)
            return tuple(
                record for record, time in zip(records, times, strict=True) if time <= limit
            )
        counts = [self.slower_ops(record) for record in records]
        return tuple(
            record for record, count in zip(records, counts, strict=True) if count == min(counts)
        )
