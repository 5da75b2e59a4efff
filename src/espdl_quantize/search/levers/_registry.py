"""All levers and the orders they are pulled in."""

from __future__ import annotations

from collections.abc import Mapping

from espdl_quantize.record import History, Priority
from espdl_quantize.search.levers._base import Lever, is_tried
from espdl_quantize.search.levers._bias_correct import CorrectBias
from espdl_quantize.search.levers._blockwise import ReconstructBlocks
from espdl_quantize.search.levers._channel_split import SplitChannels
from espdl_quantize.search.levers._equalization import Equalize
from espdl_quantize.search.levers._fusion_alignment import AlignInputs
from espdl_quantize.search.levers._int16 import PromoteWorst
from espdl_quantize.search.levers._tqt import LONGER_TQT, SMALLER_BLOCKS, STRONGER_TQT
from espdl_quantize.search.levers._weight_split import SplitOutliers

LEVERS: Mapping[str, Lever] = {
    lever.id: lever
    for lever in (
        LONGER_TQT,
        STRONGER_TQT,
        SMALLER_BLOCKS,
        CorrectBias(),
        AlignInputs(),
        Equalize(),
        PromoteWorst(),
        SplitOutliers(),
        ReconstructBlocks(),
        SplitChannels(),
    )
}
"""Every lever by its id."""

_BALANCED = ("3a-1", "3a-2", "3b", "3c", "3d", "3e", "3f", "3g")
_SPEED = ("3a-1", "3a-2", "3b", "3c", "3d", "3g", "3e", "3f")


def linear_order(priority: Priority) -> tuple[Lever, ...]:
    """Return the levers of the linear order; "speed" puts those that cost the chip last.

    "pc_time" is reserved and acts as "balanced".
    """
    return tuple(LEVERS[name] for name in (_SPEED if priority == "speed" else _BALANCED))


def untried_levers(history: History, priority: Priority) -> tuple[Lever, ...]:
    """Return the levers of the linear order that no iteration has tried."""
    return tuple(lever for lever in linear_order(priority) if not is_tried(lever, history))
