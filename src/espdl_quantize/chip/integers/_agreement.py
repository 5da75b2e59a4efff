"""How far integers agree with the simulation."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from espdl_quantize.core import Json

_SHOWN = 20


@dataclass(frozen=True)
class Agreement:
    """Numbers that were computed both ways.

    Attributes:
        outputs: how many.
        exact: how many of them are equal.
        largest: the largest difference, in steps of the output's scale.
        overflows: sums that the chip's accumulator does not hold.
    """

    outputs: int = 0
    exact: int = 0
    largest: int = 0
    overflows: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.outputs + other.outputs,
            self.exact + other.exact,
            max(self.largest, other.largest),
            self.overflows + other.overflows,
        )

    @property
    def percent(self) -> float | None:
        """Return the share that is equal; None of nothing."""
        return 100.0 * self.exact / self.outputs if self.outputs else None


@dataclass(frozen=True)
class OpAgreement:
    """One op; the note says why nothing could be compared, where so."""

    op: str
    op_type: str
    agreement: Agreement
    note: str = ""


@dataclass(frozen=True)
class SkippedOp:
    """An op that was not computed in integers, and why."""

    op: str
    op_type: str
    reason: str


@dataclass(frozen=True)
class IntegerCheck:
    """What the integers of a file come to.

    Attributes:
        samples: how many inputs they were computed for.
        ops: each op by itself, on the simulation's own inputs.
        skipped: ops that the chip computes in float, or whose integer form is not known here.
        end_to_end: the model's outputs, every op fed by the integers of the one before; None where
            that could not be computed. The skipped ops are taken from the simulation there.
    """

    samples: int
    ops: tuple[OpAgreement, ...]
    skipped: tuple[SkippedOp, ...]
    end_to_end: Agreement | None

    @property
    def total(self) -> Agreement:
        """All ops together."""
        return sum((one.agreement for one in self.ops), Agreement())

    def as_json(self) -> Json:
        """Return the part of chip_check.json that tells of the integers."""
        total = self.total
        unequal = [one for one in self.ops if one.agreement.exact < one.agreement.outputs]
        unequal.sort(key=lambda one: (one.agreement.percent or 0.0, one.op))
        return {
            "samples": self.samples,
            "ops_checked": len(self.ops),
            "ops_skipped": len(self.skipped),
            **asdict(total),
            "exact_percent": total.percent,
            "end_to_end": (
                {**asdict(self.end_to_end), "exact_percent": self.end_to_end.percent}
                if self.end_to_end
                else None
            ),
            "ops_not_exact": [_row(one) for one in unequal[:_SHOWN]],
            "ops_that_overflow": [_row(one) for one in self.ops if one.agreement.overflows][
                :_SHOWN
            ],
            "skipped": [asdict(one) for one in self.skipped],
        }


def _row(one: OpAgreement) -> Json:
    return {
        "op": one.op,
        "op_type": one.op_type,
        **asdict(one.agreement),
        "exact_percent": one.agreement.percent,
        "note": one.note,
    }
