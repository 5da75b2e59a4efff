"""Whether a model may go on a chip."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.chip._against_graph import Layouts, differences
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._model import ChipModel
from espdl_quantize.chip._read import UnreadableModelError, read_model
from espdl_quantize.chip._rules import Fault, examine
from espdl_quantize.core import IterationError, Json
from espdl_quantize.setting import Setting, enabled_passes, unequal_exponents
from espdl_quantize.targets.ops import Version, remedy_of

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
    file: Path,
    chip: str,
    graph: Any = None,
    layouts: Layouts | None = None,
    *,
    esp_dl: Version | None = None,
) -> Legality:
    """Read a model back and hold it against the rules of its chip.

    Args:
        file: an .espdl file.
        chip: one of :func:`espdl_quantize.targets.target_names`.
        graph: the quantized ``BaseGraph`` that it was exported from; None checks the file alone.
        layouts: what :func:`espdl_quantize.ppq.export` returned with it.
        esp_dl: the version of ESP-DL that it is for; None where it is not known.

    Raises:
        OutputFolderError: the file cannot be opened.
    """
    try:
        model = read_model(file)
    except UnreadableModelError as error:
        cause = f"{error.cause}; {error.hint}" if error.hint else error.cause
        return Legality(chip, None, (Fault("", "", "file", cause),))
    facts = chip_facts(chip, esp_dl=esp_dl)
    faults, doubts = examine(model, facts, from_elsewhere=graph is None)
    if graph is not None:
        faults += differences(model, graph, layouts or {})
    return Legality(chip, model, tuple(faults), tuple(doubts))


def reject_illegal(legality: Legality, setting: Setting) -> None:
    """Refuse an illegal model.

    Raises:
        IterationError: names the first op that breaks a rule, and what to leave out.
    """
    if legality.legal:
        return
    first, more = legality.faults[0], len(legality.faults) - 1
    where = f"op {first.op!r} ({first.op_type}): " if first.op else ""
    others = f" (and {more} more in chip_check.json)" if more else ""
    raise IterationError(
        f"the exported model is illegal on {legality.chip}: {where}{first.cause}{others}",
        _hint_of(first, setting),
    )


def _hint_of(fault: Fault, setting: Setting) -> str:
    """Return what to drop: the levers that touch the op first, where there are any."""
    wider = {entry.op: entry.bits for entry in setting.dispatching_table or ()}
    misaligned = unequal_exponents(setting)
    if fault.rule == "one exponent" and misaligned is not None:
        return f"leave it out: {misaligned}, and esp-ppq's default aligns the inputs to the output"
    if fault.rule == "one exponent" and not _forces_overlap(setting):
        return (
            "set fusion_alignment.force_alignment_overlap to true: where something else reads an "
            "input, too, esp-ppq aligns it by a RequantizeLinear, which its exporter leaves out "
            "between scales that differ by less than 1e-5, such as the exponents -18 and -17"
        )
    if fault.rule == "width" and fault.op in [item.op for item in setting.tensor_bits or ()]:
        return f"take {fault.op!r} out of tensor_bits: its kernel takes one width"
    if fault.op in wider and fault.rule != "shift":
        return f"take {fault.op!r} out of dispatching_table"
    if fault.rule == "op type":
        return remedy_of(fault.op_type)
    if fault.rule in ("width", "mixed width") and wider:
        return f"take what is next to {fault.op!r} out of dispatching_table"
    if fault.rule == "shared exponent" and setting.fusion_alignment is not None:
        return "leave fusion_alignment out"
    if fault.rule in ("shift", "exponents", "shared exponent", "one exponent"):
        steps = [f"leave {fault.op!r} out of {name}" for name in _trained(fault.op, setting)]
        steps.append("take another calib_algorithm")
        if wider.get(fault.op) != 16:
            steps.append(f"dispatch {fault.op!r} to 16 bits")
        steps.append("calibrate with images preprocessed as those that are scored")
        return ", or ".join(steps)
    return "run it again; if it stays so, this version of esp-ppq exports that op wrongly"


def _forces_overlap(setting: Setting) -> bool:
    section = setting.fusion_alignment
    return section is not None and section.force_alignment_overlap is True


def _trained(op: str, setting: Setting) -> list[str]:
    return [
        spec.layers_field
        for spec, section in enabled_passes(setting)
        if spec.trains and (not section.layers or op in section.layers)
    ]
