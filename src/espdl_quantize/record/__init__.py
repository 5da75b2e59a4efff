"""Owns the output folder: its names, its locks, and the content of its files.

Every file name stands in :mod:`espdl_quantize.record.files`, every JSON key in the module of its
file. What is read back are immutable records. Nothing here keeps anything between calls, or imports
esp-ppq or torch.
"""

from espdl_quantize.core import Direction, Priority
from espdl_quantize.record._history import NO_LOSS, FinalScore, History, HistoryWarning
from espdl_quantize.record._noise import Noise, signals_that_count
from espdl_quantize.record._read import (
    GENERATOR,
    is_foreign_comparison,
    model_digest,
    read_history,
)
from espdl_quantize.record._read_iteration import read_iteration
from espdl_quantize.record._staging import carry_over, is_finished, locked, staged
from espdl_quantize.record.applied import (
    Applied,
    load_applied,
    write_applied,
    write_setting,
)
from espdl_quantize.record.comparison import (
    FolderComparison,
    read_comparison,
    ready_to_save,
    write_comparison,
)
from espdl_quantize.record.cost import Budgets, Cost, LayerPrice, budgets_of
from espdl_quantize.record.device import (
    LayerTime,
    Measurement,
    OutputDifference,
    parse_measurement,
    write_measurement,
)
from espdl_quantize.record.evidence import (
    Evidence,
    GraphOp,
    HotOp,
    Jump,
    LazyEvidence,
    VariableStats,
    load_evidence,
)
from espdl_quantize.record.failure import Attempt, Failure
from espdl_quantize.record.files import (
    ARTIFACTS,
    iteration_folder,
    iteration_name,
    iteration_number,
)
from espdl_quantize.record.float_reference import FloatScore, FloatScores, read_float_scores
from espdl_quantize.record.iteration_record import (
    FLOAT_MISMATCH,
    NO_LABELS,
    EngineFallback,
    Iteration,
    IterationRecord,
    LayerError,
    OnChip,
    OutputSignal,
    ReusedPass,
    Signals,
    read_record,
    record_from_json,
)
from espdl_quantize.record.live import (
    MOST_LOSSES,
    BlockLoss,
    LiveState,
    block_losses,
    folder_version,
    losses_line,
    read_live,
    read_log,
    running_log,
    write_live,
)
from espdl_quantize.record.metrics import Metrics, read_metrics, write_metrics
from espdl_quantize.record.widths import OpGroup, Widths, write_widths

__all__ = [
    "ARTIFACTS",
    "FLOAT_MISMATCH",
    "GENERATOR",
    "MOST_LOSSES",
    "NO_LABELS",
    "NO_LOSS",
    "Applied",
    "Attempt",
    "BlockLoss",
    "Budgets",
    "Cost",
    "Direction",
    "EngineFallback",
    "Evidence",
    "Failure",
    "FinalScore",
    "FloatScore",
    "FloatScores",
    "FolderComparison",
    "GraphOp",
    "History",
    "HistoryWarning",
    "HotOp",
    "Iteration",
    "IterationRecord",
    "Jump",
    "LayerError",
    "LayerPrice",
    "LayerTime",
    "LazyEvidence",
    "LiveState",
    "Measurement",
    "Metrics",
    "Noise",
    "OnChip",
    "OpGroup",
    "OutputDifference",
    "OutputSignal",
    "Priority",
    "ReusedPass",
    "Signals",
    "VariableStats",
    "Widths",
    "block_losses",
    "budgets_of",
    "carry_over",
    "folder_version",
    "is_finished",
    "is_foreign_comparison",
    "iteration_folder",
    "iteration_name",
    "iteration_number",
    "load_applied",
    "load_evidence",
    "locked",
    "losses_line",
    "model_digest",
    "parse_measurement",
    "read_comparison",
    "read_float_scores",
    "read_history",
    "read_iteration",
    "read_live",
    "read_log",
    "read_metrics",
    "read_record",
    "ready_to_save",
    "record_from_json",
    "running_log",
    "signals_that_count",
    "staged",
    "write_applied",
    "write_comparison",
    "write_live",
    "write_measurement",
    "write_metrics",
    "write_setting",
    "write_widths",
]
