"""3g: block by block reconstruction of the weights, the last resort."""

from __future__ import annotations

from espdl_quantize.search.levers._base import Lever, LeverContext, Verdict
from espdl_quantize.search.triggers import gap_points
from espdl_quantize.setting import BlockwiseReconstruction, Setting


class ReconstructBlocks(Lever):
    """Trains weights with frozen scales on top of everything that best has; long on the PC."""

    id = "3g"
    tier = "C"
    title = "blockwise_reconstruction, lr 1e-3, steps 5000"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        section = setting.blockwise_reconstruction
        return section is not None and section.enabled

    def applies(self, context: LeverContext) -> Verdict:
        """Always applies; its place in the order makes it the last resort."""
        value, target = context.best.value, context.target
        if value is None or target is None:
            return Verdict(True, "the cheaper levers are used up")
        return Verdict(
            True, f"R10: {gap_points(value, target):.3g} points are missing to the target"
        )

    def change(self, context: LeverContext) -> Setting:
        """Turn the pass on; TQT stays, esp-ppq runs the two one after the other."""
        section = BlockwiseReconstruction(
            enabled=True, lr=1e-3, steps=5000, gamma=1.0, block_size=4, is_scale_trainable=False
        )
        return context.base.model_copy(update={"blockwise_reconstruction": section})
