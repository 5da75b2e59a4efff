"""3c: a common scale for the inputs of an op that joins branches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.triggers import judge_r8
from espdl_quantize.setting import ONE_EXPONENT_OPS, FusionAlignment, Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_TO_LARGE = {"Concat": "align_concat_to"}
_NEVER = {
    **dict.fromkeys(
        ONE_EXPONENT_OPS,
        "ESP-DL adds raw integers, so that its inputs and its output need one exponent, which "
        "esp-ppq's default gives and an alignment of the inputs alone takes away",
    ),
    "Mul": "esp-ppq has no alignment for it: the one of element-wise ops is of Add and Sub",
}
"""Candidates of R8 that no alignment can help, and why."""
_TO_INPUT = {"Resize": "align_resize_to", "AveragePool": "align_avgpooling_to"}
"""Ops with one data input. esp-ppq's QuantAlignmentPass asserts that these two keys are 'None',
'Align to Input' or 'Align to Output'; with one input there is no larger of several to align to, so
the input's range, which is what 'Align to Large' protects, is kept by 'Align to Input'."""


class AlignInputs(Lever):
    """Aligns the kind of op that R8 fires on."""

    id = "3c"
    name = "align the ranges that are joined"
    tier = "A"
    title = "fusion alignment to the largest input range"

    def marks(self, setting: Setting) -> bool:
        """Recognised by any alignment that keeps the range of the inputs."""
        section = setting.fusion_alignment
        if section is None:
            return False
        values = section.model_dump(exclude_none=True).values()
        return any(value in ("Align to Large", "Align to Input") for value in values)

    def applies(self, state: SearchState) -> Judgement:
        """Only where R8 fires on best: elsewhere the alignment was seen to cost accuracy.

        Never on an Add or Sub: the chip could not run what comes of it.
        """
        verdict = judge_r8(state.best_evidence, state.options.thresholds)
        kind = verdict.candidate.op_type if verdict.candidate is not None else ""
        if verdict.fires and kind in _NEVER:
            return Judgement(False, f"R8: {verdict.reason}; {_NEVER[kind]}")
        return Judgement(verdict.fires, f"R8: {verdict.reason}")

    def change(self, state: SearchState) -> Setting:
        """Set the one key that fits the type of R8's op."""
        candidate = judge_r8(state.best_evidence, state.options.thresholds).candidate
        if candidate is None or candidate.op_type in _NEVER:
            raise ValueError("lever 3c does not apply: no op for R8 that an alignment can help")
        update: dict[str, Any]
        if candidate.op_type in _TO_INPUT:
            update = {_TO_INPUT[candidate.op_type]: "Align to Input"}
        else:
            update = {_TO_LARGE[candidate.op_type]: "Align to Large"}
        section = (state.base.fusion_alignment or FusionAlignment()).model_copy(update=update)
        return state.base.model_copy(update={"fusion_alignment": section})
