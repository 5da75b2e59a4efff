"""Where the candidates of the evidence policy come from: one class per kind of move."""

from espdl_quantize.search.policies.generators._ablate import Ablate, TrimCost
from espdl_quantize.search.policies.generators._base import Candidate, Generator
from espdl_quantize.search.policies.generators._calibration import SwapCalibration
from espdl_quantize.search.policies.generators._int16 import PromoteOps
from espdl_quantize.search.policies.generators._knobs import OtherWays, TurnKnobs
from espdl_quantize.search.policies.generators._levers import StackLevers
from espdl_quantize.search.policies.generators._merge import changed_fields, transplant
from espdl_quantize.search.policies.generators._reapply import ReapplyChanges
from espdl_quantize.search.policies.generators._split import SplitLayers

GENERATORS: tuple[Generator, ...] = (
    StackLevers(),
    SwapCalibration(),
    ReapplyChanges(),
    Ablate(),
    TrimCost(),
    PromoteOps(),
    SplitLayers(),
    TurnKnobs(),
    OtherWays(),
)
"""In the order in which a setting that several of them yield gets its reason."""

__all__ = [
    "GENERATORS",
    "Ablate",
    "Candidate",
    "Generator",
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
