"""3g: block by block reconstruction of the weights, the last resort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.triggers import gap_points
from espdl_quantize.setting import BlockwiseReconstruction, Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class ReconstructBlocks(Lever):
    """Trains weights with frozen scales on top of everything that best has; long on the PC."""

    id = "3g"
    name = "reconstruct block by block"
    tier = "C"
    title = "blockwise_reconstruction, lr 1e-3, steps 5000"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        section = setting.blockwise_reconstruction
        return section is not None and section.enabled

    def applies(self, state: SearchState) -> Judgement:
        """Always applies; its place in the order makes it the last resort."""
        value, target = state.best_value, state.target
        if value is None or target is None:
            return Judgement(True, "the cheaper levers are used up")
        return Judgement(
            True, f"R10: {gap_points(value, target):.3g} points are missing to the target"
        )

    def change(self, state: SearchState) -> Setting:
        """Turn the pass on; TQT stays, esp-ppq runs the two one after the other."""
        section = BlockwiseReconstruction(
            enabled=True, lr=1e-3, steps=5000, gamma=1.0, block_size=4, is_scale_trainable=False
        )
        return state.base.model_copy(update={"blockwise_reconstruction": section})
