"""Runs a whole search by itself, on esp-ppq or on recorded iterations."""

from espdl_quantize.tune._backend import Backend, BackendFacts
from espdl_quantize.tune._budget import Budget, parse_duration
from espdl_quantize.tune._events import Move, Observer, Status
from espdl_quantize.tune._isolated import IsolatedBackend
from espdl_quantize.tune._loop import tune
from espdl_quantize.tune._options import TuneOptions, TuneResult
from espdl_quantize.tune._plan import Plan, PlanStep, make_plan
from espdl_quantize.tune._preview import Preview, preview
from espdl_quantize.tune._real import RealBackend
from espdl_quantize.tune._recorded import RecordedBackend, record
from espdl_quantize.tune._table import Table, pack

__all__ = [
    "Backend",
    "BackendFacts",
    "Budget",
    "IsolatedBackend",
    "Move",
    "Observer",
    "Plan",
    "PlanStep",
    "Preview",
    "RealBackend",
    "RecordedBackend",
    "Status",
    "Table",
    "TuneOptions",
    "TuneResult",
    "make_plan",
    "pack",
    "parse_duration",
    "preview",
    "record",
    "tune",
]
