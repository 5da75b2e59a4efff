"""Reads the iterations of an output folder back as immutable rows.

Nothing here writes, caches between calls, or imports esp-ppq or torch.
"""

from espdl_quantize.history._evidence import (
    Evidence,
    GraphOp,
    HotOp,
    Jump,
    VariableStats,
)
from espdl_quantize.history._final import FinalScore
from espdl_quantize.history._history import NO_LOSS, History, HistoryWarning
from espdl_quantize.history._iteration import (
    Attempt,
    Direction,
    EngineFallback,
    Failure,
    Iteration,
    LayerError,
    OnChip,
    OutputSignal,
    Priority,
    Signals,
)
from espdl_quantize.history._noise import Noise
from espdl_quantize.history._read import GENERATOR, is_foreign_comparison, read_history
from espdl_quantize.history._read_applied import Applied, load_applied
from espdl_quantize.history._read_evidence import LazyEvidence, load_evidence
from espdl_quantize.history._read_iteration import read_iteration

__all__ = [
    "GENERATOR",
    "NO_LOSS",
    "Applied",
    "Attempt",
    "Direction",
    "EngineFallback",
    "Evidence",
    "Failure",
    "FinalScore",
    "GraphOp",
    "History",
    "HistoryWarning",
    "HotOp",
    "Iteration",
    "Jump",
    "LayerError",
    "LazyEvidence",
    "Noise",
    "OnChip",
    "OutputSignal",
    "Priority",
    "Signals",
    "VariableStats",
    "is_foreign_comparison",
    "load_applied",
    "load_evidence",
    "read_history",
    "read_iteration",
]
