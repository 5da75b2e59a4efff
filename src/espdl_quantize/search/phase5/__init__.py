"""Phase 5, open exploration: what was covered, what helped, what is left."""

from espdl_quantize.search.phase5._coverage import (
    calibrations_to_reapply,
    pattern_coverage,
    untried_calib_swaps,
    untried_patterns,
)
from espdl_quantize.search.phase5._patterns import PATTERNS, classify
from espdl_quantize.search.phase5._signals import (
    LeverEffect,
    Phase5Signals,
    gather_signals,
    lever_effects,
)
from espdl_quantize.search.phase5._stack import Stack, calibration, lever_stack, passes_on
from espdl_quantize.search.phase5._tunables import Tunable, tunables

__all__ = [
    "PATTERNS",
    "LeverEffect",
    "Phase5Signals",
    "Stack",
    "Tunable",
    "calibration",
    "calibrations_to_reapply",
    "classify",
    "gather_signals",
    "lever_effects",
    "lever_stack",
    "passes_on",
    "pattern_coverage",
    "tunables",
    "untried_calib_swaps",
    "untried_patterns",
]
