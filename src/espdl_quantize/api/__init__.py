"""The product from Python: for scripts and notebooks, on objects or on a contract file."""

from espdl_quantize.api._calls import check, load, quantize, tune
from espdl_quantize.api._results import CheckResult, Result
from espdl_quantize.api.graph import forward

__all__ = ["CheckResult", "Result", "check", "forward", "load", "quantize", "tune"]
