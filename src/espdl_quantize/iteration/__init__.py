"""Runs one iteration and writes its folder."""

from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._options import RunOptions
from espdl_quantize.iteration._outcome import first_draft, record_crash
from espdl_quantize.iteration._per_sample import ScoreFacts
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._run import numbered, run_iteration, run_staged
from espdl_quantize.iteration._score import (
    Score,
    facts_of,
    final_evaluator,
    same_failure,
    score_float,
)
from espdl_quantize.iteration._signals import FloatOutputs, Watcher
from espdl_quantize.iteration._verify import Verification, verify_iteration
from espdl_quantize.iteration.examination import Examination, Examine

__all__ = [
    "Examination",
    "Examine",
    "FloatOutputs",
    "Prepared",
    "RunOptions",
    "Score",
    "ScoreFacts",
    "Verification",
    "Watcher",
    "captured",
    "facts_of",
    "final_evaluator",
    "first_draft",
    "numbered",
    "record_crash",
    "run_iteration",
    "run_staged",
    "same_failure",
    "score_float",
    "verify_iteration",
]
