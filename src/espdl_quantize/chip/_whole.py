"""The whole check of an exported file: its rules, then its integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espdl_quantize.chip._against_graph import Layouts
from espdl_quantize.chip._check import Legality, check_legality
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.contract import Batch, spread_samples
from espdl_quantize.core import Json
from espdl_quantize.ppq import QuantizationEngine
from espdl_quantize.record import OnChip
from espdl_quantize.targets.ops import Version

if TYPE_CHECKING:
    from espdl_quantize.chip.integers import IntegerCheck, OpAgreement

ALWAYS = 2
"""Samples of every iteration's integer check; ``verify`` takes more."""

_NEAR = 99.0
"""Percent of an op's outputs that rounding in float32 leaves equal, and far more."""

_STREAMS = "the file streams, and the quantized graph does not"
"""No problem: there is nothing to compare the integers with."""


@dataclass(frozen=True)
class ChipCheck:
    """What is known of a file.

    Attributes:
        legality: whether it may go on the chip.
        integers: what its integers come to; None where it is illegal, or that failed.
        problem: why there are no integers.
    """

    legality: Legality
    integers: IntegerCheck | None = None
    problem: str = ""

    def as_json(self) -> Json:
        """Return the content of chip_check.json."""
        return {
            "legality": self.legality.as_json(),
            "integers": self.integers.as_json() if self.integers else None,
            "problem": self.problem,
        }

    def summary(self) -> OnChip:
        """Return what the record of an iteration repeats."""
        faults, doubts = len(self.legality.faults), len(self.legality.doubts)
        summary = OnChip(legal=self.legality.legal, faults=faults, doubts=doubts)
        if self.integers is None:
            return summary
        total, whole = self.integers.total, self.integers.end_to_end
        return replace(
            summary,
            exact_percent=total.percent,
            largest_difference=total.largest,
            end_to_end_exact_percent=whole.percent if whole else None,
            end_to_end_largest_difference=whole.largest if whole else None,
            ops_checked=len(self.integers.ops),
            ops_skipped=len(self.integers.skipped),
            overflows=total.overflows,
        )

    @property
    def differing(self) -> list[OpAgreement]:
        """The ops whose integers are not what the simulation says, but for rounding in float32."""
        return [op for op in (self.integers.ops if self.integers else ()) if _differs(op)]

    def warnings(self) -> Iterator[str]:
        """Name the ops whose integers are not what the simulation says."""
        for doubt in self.legality.doubts:
            yield f"op {doubt.op!r} ({doubt.op_type}) on {self.legality.chip}: {doubt.cause}"
        if self.problem and self.problem != _STREAMS:
            yield f"the exported integers could not be checked: {self.problem}"
        for checked in self.integers.ops if self.integers else ():
            if _differs(checked):
                note = f": {checked.note}" if checked.note else ""
                share = checked.agreement.percent or 0.0
                yield (
                    f"op {checked.op!r} ({checked.op_type}): {share:.4g} % of the exported "
                    f"integers come to what the simulation says, the largest difference is "
                    f"{checked.agreement.largest} steps{note}"
                )
            if checked.agreement.overflows:
                yield (
                    f"op {checked.op!r} ({checked.op_type}): {checked.agreement.overflows} of "
                    f"{checked.agreement.outputs} sums do not fit into {self.legality.chip}'s "
                    "accumulator; the simulation does not know that"
                )


def _differs(op: OpAgreement) -> bool:
    share = op.agreement.percent
    return share is not None and (share < _NEAR or op.agreement.largest > 1)


def check_model(
    file: Path,
    chip: str,
    graph: Any,
    layouts: Layouts,
    batches: list[Batch],
    device: str = "cpu",
    samples: int = ALWAYS,
    *,
    engine: QuantizationEngine | None = None,
    esp_dl: Version | None = None,
) -> ChipCheck:
    """Hold a file against its chip's rules, then compute its integers beside the simulation.

    Args:
        file: an .espdl file.
        chip: one of :func:`espdl_quantize.targets.target_names`.
        graph: the quantized ``BaseGraph`` that it was exported from; None where the file computes
            something else, as a streaming model does: then its rules alone are checked.
        layouts: what :func:`espdl_quantize.ppq.export` returned with it.
        batches: inputs; samples from all over them are computed.
        device: where the simulation runs; the integers are computed on the CPU.
        samples: how many.
        engine: runs the ops that have no integer form; None for plain esp-ppq.
        esp_dl: the version of ESP-DL that it is for; None where it is not known.

    Raises:
        OutputFolderError: the file cannot be opened.
    """
    legality = check_legality(file, chip, graph, layouts, esp_dl=esp_dl)
    if not legality.legal or legality.model is None:
        return ChipCheck(legality, problem="the model is illegal")
    if graph is None:
        return ChipCheck(legality, problem=_STREAMS)
    from espdl_quantize.chip.integers import check_integers

    try:
        chosen = spread_samples(batches, samples)
        facts = chip_facts(chip)
        found = check_integers(legality.model, facts, graph, layouts, chosen, device, engine=engine)
    except OSError:
        raise
    except Exception as error:
        # A check that fails says nothing against the model.
        return ChipCheck(legality, problem=f"{type(error).__name__}: {error}"[:300])
    return ChipCheck(legality, found)
