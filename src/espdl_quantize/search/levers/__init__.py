"""The levers of phase 3: each changes one thing in best's setting.

A new lever is a file in this folder and a line in :data:`LEVERS`; the orders name those that phase
3 pulls by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from espdl_quantize.core import Priority
from espdl_quantize.record import History
from espdl_quantize.search.levers._base import Judgement, Lever, improved, is_tried, runs_of
from espdl_quantize.search.levers.bias_correct import CorrectBias
from espdl_quantize.search.levers.blockwise import ReconstructBlocks
from espdl_quantize.search.levers.channel_split import SplitChannels
from espdl_quantize.search.levers.equalization import Equalize
from espdl_quantize.search.levers.exponents import SearchExponents
from espdl_quantize.search.levers.fusion_alignment import AlignInputs
from espdl_quantize.search.levers.groups import DemoteIdle, PromoteGroups
from espdl_quantize.search.levers.int16 import PromoteWorst
from espdl_quantize.search.levers.tqt import (
    LONGER_TQT,
    SMALLER_BLOCKS,
    STRONGER_TQT,
    escalation_converged,
    unstable_training,
)
from espdl_quantize.search.levers.weight_split import SplitOutliers

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
        PromoteGroups(),
        DemoteIdle(),
        SearchExponents(),
    )
}
"""Every lever by its id."""

_BALANCED = ("3a-1", "3a-2", "3b", "3c", "3d", "3e", "3f", "3g")
_SPEED = ("3a-1", "3a-2", "3b", "3c", "3d", "3g", "3e", "3f")


def linear_order(priority: Priority) -> tuple[Lever, ...]:
    """Return the levers of the linear order; "speed" puts those that cost the chip last.

    "pc_time" is reserved and acts as "balanced".
    """
    names = _SPEED if priority == Priority.SPEED else _BALANCED
    return tuple(LEVERS[name] for name in names)


def untried_levers(history: History, priority: Priority) -> tuple[Lever, ...]:
    """Return the levers of the linear order that no iteration has tried."""
    return tuple(lever for lever in linear_order(priority) if not is_tried(lever, history))


__all__ = [
    "LEVERS",
    "Judgement",
    "Lever",
    "escalation_converged",
    "improved",
    "is_tried",
    "linear_order",
    "runs_of",
    "unstable_training",
    "untried_levers",
]
