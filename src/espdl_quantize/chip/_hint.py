"""What to change in a setting whose model is illegal."""

from __future__ import annotations

from espdl_quantize.chip._rules import Fault
from espdl_quantize.setting import Setting, enabled_passes, unequal_exponents


def hint_of(fault: Fault, setting: Setting) -> str:
    """Return what to drop: the levers that touch the op first, where there are any."""
    wider = {one.op: one.bits for one in setting.dispatching_table or ()}
    misaligned = unequal_exponents(setting)
    if fault.rule == "one exponent" and misaligned is not None:
        return f"leave it out: {misaligned}, and esp-ppq's default aligns the inputs to the output"
    if fault.rule == "one exponent" and not _forces_overlap(setting):
        return (
            "set fusion_alignment.force_alignment_overlap to true: where something else reads an "
            "input, too, esp-ppq aligns it by a RequantizeLinear, which its exporter leaves out "
            "between scales that differ by less than 1e-5, such as the exponents -18 and -17"
        )
    if fault.op in wider and fault.rule != "shift":
        return f"take {fault.op!r} out of dispatching_table"
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
