"""The exported integers, computed as the chip computes them. Imports torch."""

from espdl_quantize.chip.integers._agreement import (
    Agreement,
    IntegerCheck,
    OpAgreement,
    SkippedOp,
)
from espdl_quantize.chip.integers._arithmetic import to_integers
from espdl_quantize.chip.integers._run import check_integers
from espdl_quantize.chip.integers._unpack import unpack, unpack_matrices

__all__ = [
    "Agreement",
    "IntegerCheck",
    "OpAgreement",
    "SkippedOp",
    "check_integers",
    "to_integers",
    "unpack",
    "unpack_matrices",
]
