"""Decides the next step of a search: pure functions of the iterations and their artifacts."""

from espdl_quantize.core import describe_seconds
from espdl_quantize.search._crashes import CRASH_LIMIT, Crash, CrashedPass, Crashes
from espdl_quantize.search._decisions import (
    Decision,
    Open,
    Proposal,
    SkippedLever,
    Stop,
    StopCategory,
)
from espdl_quantize.search._describe import (
    cite,
    describe_changes,
    describe_score,
    describe_setting,
)
from espdl_quantize.search._lint import Violation, cited_iterations, lint_setting
from espdl_quantize.search._options import DEFAULT_STRATEGY, SearchOptions
from espdl_quantize.search._ranking import RankBy, RankedBySignal
from espdl_quantize.search._seconds import TimeEstimate, TimeModel
from espdl_quantize.search._state import SearchState, decide
from espdl_quantize.search._stops import (
    both_last_worse,
    plateau,
    relative_loss,
    target_reached,
)
from espdl_quantize.search._sweep import (
    SWEEP,
    SweepPoint,
    covered_sweep,
    missing_sweep,
    sweep_complete_after,
    sweep_point,
    sweep_setting,
)
from espdl_quantize.search._thresholds import DEFAULT_THRESHOLDS, Thresholds
from espdl_quantize.search.beside import propose_beside, relaxed_rule
from espdl_quantize.search.levers import LEVERS, Judgement, Lever, linear_order
from espdl_quantize.search.phase5 import Phase5Signals
from espdl_quantize.search.swift import (
    LONG_TQT,
    LONGEST_TQT,
    SCREENED,
    SHORT_TQT,
    Stretch,
    stretches_left,
)
from espdl_quantize.search.triggers import Finding, find_triggers
from espdl_quantize.setting import RuntimeCost, int16_ops, runtime_cost, split_layers

__all__ = [
    "CRASH_LIMIT",
    "DEFAULT_STRATEGY",
    "DEFAULT_THRESHOLDS",
    "LEVERS",
    "LONGEST_TQT",
    "LONG_TQT",
    "SCREENED",
    "SHORT_TQT",
    "SWEEP",
    "Crash",
    "CrashedPass",
    "Crashes",
    "Decision",
    "Finding",
    "Judgement",
    "Lever",
    "Open",
    "Phase5Signals",
    "Proposal",
    "RankBy",
    "RankedBySignal",
    "RuntimeCost",
    "SearchOptions",
    "SearchState",
    "SkippedLever",
    "Stop",
    "StopCategory",
    "Stretch",
    "SweepPoint",
    "Thresholds",
    "TimeEstimate",
    "TimeModel",
    "Violation",
    "both_last_worse",
    "cite",
    "cited_iterations",
    "covered_sweep",
    "decide",
    "describe_changes",
    "describe_score",
    "describe_seconds",
    "describe_setting",
    "find_triggers",
    "int16_ops",
    "linear_order",
    "lint_setting",
    "missing_sweep",
    "plateau",
    "propose_beside",
    "relative_loss",
    "relaxed_rule",
    "runtime_cost",
    "split_layers",
    "stretches_left",
    "sweep_complete_after",
    "sweep_point",
    "sweep_setting",
    "target_reached",
]
