"""3b: bias correction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.triggers import idle_bias_correction, r5_mean_shift
from espdl_quantize.setting import BiasCorrect, Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class CorrectBias(Lever):
    """Adds the mean output error of each block back into its biases."""

    id = "3b"
    name = "correct biases"
    tier = "A"
    title = "bias_correct, block_size 4, steps 32"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        return setting.bias_correct is not None and setting.bias_correct.enabled

    def applies(self, state: SearchState) -> Judgement:
        """Worth a run where there is a bias; a mean shift in best's outputs is cited."""
        idle = idle_bias_correction(state.best_evidence)
        if idle is not None:
            return Judgement(False, idle)
        finding = r5_mean_shift(state.best_evidence, state.options.thresholds)
        reason = f"R5: {finding.text}" if finding else "R5 matches no layer; the pass is cheap"
        return Judgement(True, reason)

    def change(self, state: SearchState) -> Setting:
        """Turn the pass on with esp-ppq's defaults."""
        section = BiasCorrect(enabled=True, block_size=4, steps=32)
        return state.base.model_copy(update={"bias_correct": section})
