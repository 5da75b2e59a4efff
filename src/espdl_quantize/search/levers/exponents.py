"""3k: a search over the exponents, by what the outputs lose. Not in the seed's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from espdl_quantize.search.levers._base import Judgement, Lever
from espdl_quantize.setting import ExponentSearch, Setting

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


class SearchExponents(Lever):
    """Moves the exponents that calibration chose, before anything is trained.

    The pass is not esp-ppq's, and the seed's order of levers does not have it: the strategy swift
    pulls it before it trains anything, and open exploration takes it up.
    """

    id = "3k"
    tier = "A"
    name = "search the exponents"
    title = "exponent_search, samples 128"

    def marks(self, setting: Setting) -> bool:
        """Recognised by the pass being on."""
        return setting.exponent_search is not None and setting.exponent_search.enabled

    def applies(self, state: SearchState) -> Judgement:
        """Worth a run with any calibration: none of them looks at the outputs."""
        calibration = state.base.calib_algorithm or "the calibration"
        return Judgement(
            True,
            f"{calibration} chose each exponent of {state.base_name} by one tensor's own values, "
            "and training at the usual rates moves none",
        )

    def change(self, state: SearchState) -> Setting:
        """Turn the pass on."""
        section = ExponentSearch(enabled=True, samples=128, rounds=3)
        return state.base.model_copy(update={"exponent_search": section})
