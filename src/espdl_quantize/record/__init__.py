"""Reads the iterations of an output folder back as immutable rows.

Nothing here writes, caches between calls, or imports esp-ppq or torch.
"""

from espdl_quantize.record._device import (
    DEVICE,
    LayerTime,
    Measurement,
    OutputDifference,
    parse_measurement,
    write_measurement,
)
from espdl_quantize.record._evidence import Evidence, GraphOp, HotOp, Jump, VariableStats
from espdl_quantize.record._final import FinalScore
from espdl_quantize.record._history import NO_LOSS, History, HistoryWarning
from espdl_quantize.record._iteration import (
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
from espdl_quantize.record._noise import Noise
from espdl_quantize.record._read import GENERATOR, is_foreign_comparison, read_history
from espdl_quantize.record._read_applied import Applied, load_applied
from espdl_quantize.record._read_evidence import LazyEvidence, load_evidence
from espdl_quantize.record._read_iteration import read_iteration
from espdl_quantize.record._staging import (
    ARTIFACTS,
    FORWARD,
    INDEX,
    MEMORY,
    carry_over,
    is_finished,
    iteration_number,
    locked,
    staged,
)
from espdl_quantize.record.comparison import FolderComparison, ready_to_save, write_comparison

__all__ = [
    "ARTIFACTS",
    "DEVICE",
    "FORWARD",
    "GENERATOR",
    "INDEX",
    "MEMORY",
    "NO_LOSS",
    "Applied",
    "Attempt",
    "Direction",
    "EngineFallback",
    "Evidence",
    "Failure",
    "FinalScore",
    "FolderComparison",
    "GraphOp",
    "History",
    "HistoryWarning",
    "HotOp",
    "Iteration",
    "Jump",
    "LayerError",
    "LayerTime",
    "LazyEvidence",
    "Measurement",
    "Noise",
    "OnChip",
    "OutputDifference",
    "OutputSignal",
    "Priority",
    "Signals",
    "VariableStats",
    "carry_over",
    "is_finished",
    "is_foreign_comparison",
    "iteration_number",
    "load_applied",
    "load_evidence",
    "locked",
    "parse_measurement",
    "read_history",
    "read_iteration",
    "ready_to_save",
    "staged",
    "write_comparison",
    "write_measurement",
]
