"""The product from Python: for scripts and notebooks, on objects or on a contract file."""

from espdl_quantize.api._calls import check, diff, forward, load, quantize, tune
from espdl_quantize.api._results import CheckResult, Diff, Result

__all__ = [
    "CheckResult",
    "Diff",
    "Result",
    "check",
    "diff",
    "forward",
    "load",
    "quantize",
    "tune",
]
