"""Runs one iteration and writes its folder."""

from espdl_quantize.iteration._aside import FINAL, model_digest
from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._float_reference import FLOAT_REFERENCE
from espdl_quantize.iteration._lost import error_of, record_lost
from espdl_quantize.iteration._options import RunOptions
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._run import numbered, run_iteration, run_staged
from espdl_quantize.iteration._score import Score, facts_of, final_evaluator, score_float
from espdl_quantize.iteration._verify import Verification, verify_iteration

__all__ = [
    "FINAL",
    "FLOAT_REFERENCE",
    "FORWARD",
    "Prepared",
    "RunOptions",
    "Score",
    "Verification",
    "captured",
    "error_of",
    "facts_of",
    "final_evaluator",
    "model_digest",
    "numbered",
    "record_lost",
    "run_iteration",
    "run_staged",
    "score_float",
    "verify_iteration",
]
