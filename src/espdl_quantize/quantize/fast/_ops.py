"""What is known of single ops of esp-ppq."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from esp_ppq.core import TargetPlatform
from esp_ppq.executor.base import OPERATION_FORWARD_TABLE
from esp_ppq.executor.op.torch.default import DEFAULT_BACKEND_TABLE

from espdl_quantize.quantize.fast._fake_quant import NO_BOUNDS, RELU, Bounds

IN_DOUBLE = frozenset(
    {
        TargetPlatform.ESPDL_H_PRE_INT16,
        TargetPlatform.ESPDL_S3_H_PRE_INT16,
        TargetPlatform.ESPDL_C_H_PRE_INT16,
    }
)
"""Platforms whose ops esp-ppq computes in double precision."""


def is_esp_ppqs(op: Any) -> bool:
    """Tell whether esp-ppq computes an op by its own function, not by a user's."""
    return OPERATION_FORWARD_TABLE[op.platform].get(op.type) is DEFAULT_BACKEND_TABLE[op.type]


def bounds_of(op: Any, values: Sequence[Any]) -> Bounds:
    """Return what a Relu or Clip does to its first input; NO_BOUNDS for every other op.

    Args:
        op: an esp-ppq ``Operation``.
        values: its inputs, quantized; the first is not looked at.
    """
    if op.type not in ("Relu", "Clip") or not is_esp_ppqs(op):
        return NO_BOUNDS
    if op.type == "Relu":
        return RELU
    if len(values) == 1:
        limits = [op.attributes.get("min"), op.attributes.get("max")]
    else:
        limits = [*values[1:], None][:2]
    least, most = (None if one is None else float(one) for one in limits)
    return Bounds(-math.inf if least is None else least, math.inf if most is None else most)
