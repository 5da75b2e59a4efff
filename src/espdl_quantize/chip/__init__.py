"""What was exported: whether a chip can run it, and what its integers come to."""

from espdl_quantize.chip._check import Legality, check_legality, reject_illegal
from espdl_quantize.chip._read import UnreadableModelError, parse_model, read_model
from espdl_quantize.chip._rules import Fault
from espdl_quantize.chip._whole import ALWAYS, ChipCheck, check_model

__all__ = [
    "ALWAYS",
    "ChipCheck",
    "Fault",
    "Legality",
    "UnreadableModelError",
    "check_legality",
    "check_model",
    "parse_model",
    "read_model",
    "reject_illegal",
]
