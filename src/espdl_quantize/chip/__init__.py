"""What was exported: whether a chip can run it, and what its integers come to."""

from espdl_quantize.chip._check import Legality, check_legality, reject_illegal
from espdl_quantize.chip._facts import WITH_16_BITS, chip_facts
from espdl_quantize.chip._model import ChipModel, Node, Tensor
from espdl_quantize.chip._read import UnreadableModelError, parse_model, read_model
from espdl_quantize.chip._rules import Fault
from espdl_quantize.chip._whole import ALWAYS, ChipCheck, check_model
from espdl_quantize.chip.cost import ChipCost, Deployment, calibrate, cost_of

__all__ = [
    "ALWAYS",
    "WITH_16_BITS",
    "ChipCheck",
    "ChipCost",
    "ChipModel",
    "Deployment",
    "Fault",
    "Legality",
    "Node",
    "Tensor",
    "UnreadableModelError",
    "calibrate",
    "check_legality",
    "check_model",
    "chip_facts",
    "cost_of",
    "parse_model",
    "read_model",
    "reject_illegal",
]
