"""Decides the next step of a search: pure functions of the iterations and their artifacts."""

from espdl_quantize.core import describe_seconds
from espdl_quantize.search._advice import findings
from espdl_quantize.search._crashes import CRASH_LIMIT, Crash, CrashedPass, Crashes
from espdl_quantize.search._decide import decide, searching, settle, signals_of
from espdl_quantize.search._decision import (
    Decision,
    Phase,
    SearchOptions,
    SkippedLever,
    Stop,
    StopCategory,
)
from espdl_quantize.search._describe import cite, describe_changes, describe_setting, score
from espdl_quantize.search._legs import (
    LEGS,
    covered_legs,
    leg,
    leg_of,
    legs_complete_after,
    missing_leg,
    missing_legs,
)
from espdl_quantize.search._lint import Violation, cited_iterations, lint_setting
from espdl_quantize.search._rules import Situation, phase5_cutoff
from espdl_quantize.search._search_by import SearchBy
from espdl_quantize.search._seconds import TimeEstimate, TimeModel
from espdl_quantize.search._stops import (
    both_last_worse,
    plateau,
    relative_loss,
    target_reached,
)
from espdl_quantize.search._thresholds import DEFAULT_THRESHOLDS, Thresholds
from espdl_quantize.search.levers import LEVERS, Lever, LeverContext, Verdict, linear_order
from espdl_quantize.search.phase5 import Phase5Signals
from espdl_quantize.search.triggers import Finding, find_triggers
from espdl_quantize.setting import RuntimeCost, int16_ops, runtime_cost, split_layers

__all__ = [
    "CRASH_LIMIT",
    "DEFAULT_THRESHOLDS",
    "LEGS",
    "LEVERS",
    "Crash",
    "CrashedPass",
    "Crashes",
    "Decision",
    "Finding",
    "Lever",
    "LeverContext",
    "Phase",
    "Phase5Signals",
    "RuntimeCost",
    "SearchBy",
    "SearchOptions",
    "Situation",
    "SkippedLever",
    "Stop",
    "StopCategory",
    "Thresholds",
    "TimeEstimate",
    "TimeModel",
    "Verdict",
    "Violation",
    "both_last_worse",
    "cite",
    "cited_iterations",
    "covered_legs",
    "decide",
    "describe_changes",
    "describe_seconds",
    "describe_setting",
    "find_triggers",
    "findings",
    "int16_ops",
    "leg",
    "leg_of",
    "legs_complete_after",
    "linear_order",
    "lint_setting",
    "missing_leg",
    "missing_legs",
    "phase5_cutoff",
    "plateau",
    "relative_loss",
    "runtime_cost",
    "score",
    "searching",
    "settle",
    "signals_of",
    "split_layers",
    "target_reached",
]
