"""The product from Python: for scripts and notebooks, on objects or on a contract file."""

from espdl_quantize.api._calls import check, forward, load, quantize, tune
from espdl_quantize.api._results import CheckResult, Result

__all__ = ["CheckResult", "Result", "check", "forward", "load", "quantize", "tune"]
