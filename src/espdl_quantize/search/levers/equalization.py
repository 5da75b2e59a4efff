"""3d: layer-wise equalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.search.triggers import idle_equalization, r3_uneven_channels
from espdl_quantize.setting import Equalization, Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_THRESHOLD = 0.5

_OPT_LEVEL: Literal[2] = 2
"""Crosses Add and Sub; esp-ppq's default 1 skips every residual block, so that a setting with only
``enabled`` does not test what this lever is for."""


class Equalize(Lever):
    """Moves a factor per channel from one convolution to the next."""

    id = "3d"
    name = "equalize channels"
    tier = "A"
    title = "equalization, iterations 10, value_threshold 0.5, opt_level 2"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on across branches."""
        section = setting.equalization
        return section is not None and section.enabled and section.opt_level == _OPT_LEVEL

    def applies(self, state: SearchState) -> Judgement:
        """Worth a run where layers follow each other; uneven channels are cited."""
        idle = idle_equalization(state.best_evidence, _THRESHOLD, _OPT_LEVEL)
        if idle is not None:
            return Judgement(False, idle)
        finding = r3_uneven_channels(state.best_evidence, state.options.thresholds)
        reason = (
            f"R3: {finding.text}" if finding else "R3 matches no layer; it costs the chip nothing"
        )
        return Judgement(True, reason)

    def change(self, state: SearchState) -> Setting:
        """Turn the pass on with every parameter spelled out."""
        section = Equalization(
            enabled=True,
            iterations=10,
            value_threshold=_THRESHOLD,
            opt_level=_OPT_LEVEL,
            including_bias=False,
            including_act=False,
        )
        return state.base.model_copy(update={"equalization": section})
