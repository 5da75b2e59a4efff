"""The levers of phase 3: each changes one thing in best's setting."""

from espdl_quantize.search.levers._base import (
    Lever,
    LeverContext,
    Verdict,
    improved,
    is_tried,
    runs_of,
)
from espdl_quantize.search.levers._registry import LEVERS, linear_order, untried_levers
from espdl_quantize.search.levers._tqt import escalation_converged, unstable_training

__all__ = [
    "LEVERS",
    "Lever",
    "LeverContext",
    "Verdict",
    "escalation_converged",
    "improved",
    "is_tried",
    "linear_order",
    "runs_of",
    "unstable_training",
    "untried_levers",
]
