"""What a model costs on the chip, before it is there: flash, RAM and milliseconds.

RAM is planned as ESP-DL plans it, byte by byte. Milliseconds are predicted, by a model that counts
each op's work and was fitted to published figures (``python -m benchmarks.latency``).
"""

from espdl_quantize.chip.cost._cost import (
    ChipCost,
    FlashCost,
    LatencyCost,
    LayerCost,
    RamCost,
    calibrate,
    conversion_times,
    cost_of,
    cost_of_model,
)
from espdl_quantize.chip.cost._latency import (
    CalibrationError,
    Constants,
    Deployment,
    constants_of_json,
    cost_chips,
    load_constants,
    shipped_constants,
)
from espdl_quantize.chip.cost._plan import (
    MemoryPlan,
    Placement,
    UnplannableModelError,
    parameter_bytes,
    plan_memory,
)
from espdl_quantize.chip.cost._work import KINDS
from espdl_quantize.chip.cost.boards import Calibration, calibration_of, cost_in, keep_costs

__all__ = [
    "KINDS",
    "Calibration",
    "CalibrationError",
    "ChipCost",
    "Constants",
    "Deployment",
    "FlashCost",
    "LatencyCost",
    "LayerCost",
    "MemoryPlan",
    "Placement",
    "RamCost",
    "UnplannableModelError",
    "calibrate",
    "calibration_of",
    "constants_of_json",
    "conversion_times",
    "cost_chips",
    "cost_in",
    "cost_of",
    "cost_of_model",
    "keep_costs",
    "load_constants",
    "parameter_bytes",
    "plan_memory",
    "shipped_constants",
]
