"""Whether a model may go on a chip."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.chip._against_graph import Layouts, differences
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._hint import hint_of
from espdl_quantize.chip._model import ChipModel
from espdl_quantize.chip._read import UnreadableModelError, read_model
from espdl_quantize.chip._rules import Fault, doubts_of, faults_of
from espdl_quantize.core import IterationError, Json
from espdl_quantize.setting import Setting

_SHOWN = 50
"""Faults that are listed; a model that breaks more breaks them alike."""


@dataclass(frozen=True)
class Legality:
    """What was found in a file.

    Attributes:
        chip: the chip it is meant for.
        model: the file; None where it cannot be read.
        faults: every rule that it breaks; none where it is legal.
        doubts: what may be wrong, and no source says so.
    """

    chip: str
    model: ChipModel | None = field(repr=False)
    faults: tuple[Fault, ...] = ()
    doubts: tuple[Fault, ...] = ()

    @property
    def legal(self) -> bool:
        """Whether it may go on the chip."""
        return not self.faults

    def as_json(self) -> Json:
        """Return the part of chip_check.json that tells of the rules."""
        widths: dict[str, int] = {}
        for node in self.model.nodes if self.model else ():
            widths[node.width] = widths.get(node.width, 0) + 1
        return {
            "chip": self.chip,
            "legal": self.legal,
            "nodes": len(self.model.nodes) if self.model else None,
            "nodes_by_width": widths,
            "faults_count": len(self.faults),
            "faults": [asdict(fault) for fault in self.faults[:_SHOWN]],
            "doubts_count": len(self.doubts),
            "doubts": [asdict(doubt) for doubt in self.doubts[:_SHOWN]],
        }


def check_legality(
    file: Path, chip: str, graph: Any = None, layouts: Layouts | None = None
) -> Legality:
    """Read a model back and hold it against the rules of its chip.

    Args:
        file: an .espdl file.
        chip: one of :func:`espdl_quantize.targets.target_names`.
        graph: the quantized ``BaseGraph`` that it was exported from; None checks the file alone.
        layouts: what :func:`espdl_quantize.ppq.export` returned with it.

    Raises:
        OutputFolderError: the file cannot be opened.
    """
    try:
        model = read_model(file)
    except UnreadableModelError as error:
        return Legality(chip, None, (Fault("", "", "file", error.cause),))
    faults = faults_of(model, chip_facts(chip))
    if graph is not None:
        faults += differences(model, graph, layouts or {})
    return Legality(chip, model, tuple(faults), tuple(doubts_of(model, chip_facts(chip))))


def reject_illegal(found: Legality, setting: Setting) -> None:
    """Refuse an illegal model.

    Raises:
        IterationError: names the first op that breaks a rule, and what to leave out.
    """
    if found.legal:
        return
    first, more = found.faults[0], len(found.faults) - 1
    where = f"op {first.op!r} ({first.op_type}): " if first.op else ""
    others = f" (and {more} more in chip_check.json)" if more else ""
    raise IterationError(
        f"the exported model is illegal on {found.chip}: {where}{first.cause}{others}",
        hint_of(first, setting),
    )
