"""Runs one iteration and writes its folder."""

from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._float_reference import FLOAT_REFERENCE
from espdl_quantize.iteration._folder import (
    INDEX,
    is_finished,
    iteration_number,
    locked,
    staged,
)
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._run import RunOptions, run_iteration
from espdl_quantize.iteration._score import Score, score_float

__all__ = [
    "FLOAT_REFERENCE",
    "INDEX",
    "Prepared",
    "RunOptions",
    "Score",
    "captured",
    "is_finished",
    "iteration_number",
    "locked",
    "run_iteration",
    "score_float",
    "staged",
]
