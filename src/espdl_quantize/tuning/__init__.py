"""Runs a whole search by itself, on esp-ppq or on recorded iterations."""

from espdl_quantize.tuning._backend import (
    AuxiliaryBackend,
    Backend,
    BackendFacts,
    ParallelBackend,
)
from espdl_quantize.tuning._budget import (
    BUDGET_RULE,
    Budget,
    SearchInterrupt,
    Spent,
    parse_duration,
)
from espdl_quantize.tuning._events import Observer, Status
from espdl_quantize.tuning._final import take_final
from espdl_quantize.tuning._guard import check_chip, default_outputs
from espdl_quantize.tuning._isolated import IsolatedBackend
from espdl_quantize.tuning._loop import tune
from espdl_quantize.tuning._options import TuneOptions, TuneResult
from espdl_quantize.tuning._plan import Plan, PlanStep, make_plan
from espdl_quantize.tuning._preview import Preview, preview
from espdl_quantize.tuning._real import RealBackend
from espdl_quantize.tuning._recorded import RecordedBackend, record
from espdl_quantize.tuning._repeat import REPEAT, Draws, compare_draws, confirm, repeat
from espdl_quantize.tuning._table import Table, pack
from espdl_quantize.tuning.ray import RayBackend

__all__ = [
    "BUDGET_RULE",
    "REPEAT",
    "AuxiliaryBackend",
    "Backend",
    "BackendFacts",
    "Budget",
    "Draws",
    "IsolatedBackend",
    "Observer",
    "ParallelBackend",
    "Plan",
    "PlanStep",
    "Preview",
    "RayBackend",
    "RealBackend",
    "RecordedBackend",
    "SearchInterrupt",
    "Spent",
    "Status",
    "Table",
    "TuneOptions",
    "TuneResult",
    "check_chip",
    "compare_draws",
    "confirm",
    "default_outputs",
    "make_plan",
    "pack",
    "parse_duration",
    "preview",
    "record",
    "repeat",
    "take_final",
    "tune",
]
