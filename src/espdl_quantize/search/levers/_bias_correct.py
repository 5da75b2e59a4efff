"""3b: bias correction."""

from __future__ import annotations

from espdl_quantize.search.levers._base import Lever, LeverContext, Verdict
from espdl_quantize.search.triggers import r5_mean_shift
from espdl_quantize.setting import BiasCorrect, Setting


class CorrectBias(Lever):
    """Adds the mean output error of each block back into its biases."""

    id = "3b"
    tier = "A"
    title = "bias_correct, block_size 4, steps 32"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        return setting.bias_correct is not None and setting.bias_correct.enabled

    def applies(self, context: LeverContext) -> Verdict:
        """Worth a run on any model; a mean shift in best's outputs is cited where there is one."""
        finding = r5_mean_shift(context.evidence, context.thresholds)
        reason = f"R5: {finding.text}" if finding else "R5 matches no layer; the pass is cheap"
        return Verdict(True, reason)

    def change(self, context: LeverContext) -> Setting:
        """Turn the pass on with esp-ppq's defaults."""
        section = BiasCorrect(enabled=True, block_size=4, steps=32)
        return context.base.model_copy(update={"bias_correct": section})
