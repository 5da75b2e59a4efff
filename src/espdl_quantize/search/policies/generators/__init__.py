"""Where the candidates of the evidence policy come from: one class per kind of change."""

from espdl_quantize.search.policies.generators._base import Generator
from espdl_quantize.search.policies.generators.ops import (
    MoreGroups,
    PromoteOps,
    SplitLayers,
    TrimCost,
)
from espdl_quantize.search.policies.generators.passes import Ablate, OtherWays, TurnKnobs
from espdl_quantize.search.policies.generators.stack import (
    ReapplyChanges,
    StackLevers,
    SwapCalibration,
    changed_fields,
    transplant,
)

GENERATORS: tuple[Generator, ...] = (
    StackLevers(),
    SwapCalibration(),
    ReapplyChanges(),
    Ablate(),
    TrimCost(),
    MoreGroups(),
    PromoteOps(),
    SplitLayers(),
    TurnKnobs(),
    OtherWays(),
)
"""In the order in which a setting that several of them yield gets its reason."""

__all__ = [
    "GENERATORS",
    "Ablate",
    "Generator",
    "MoreGroups",
    "OtherWays",
    "PromoteOps",
    "ReapplyChanges",
    "SplitLayers",
    "StackLevers",
    "SwapCalibration",
    "TrimCost",
    "TurnKnobs",
    "changed_fields",
    "transplant",
]
