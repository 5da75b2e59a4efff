"""What is known of single ops of esp-ppq."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from esp_ppq.core import TargetPlatform
from esp_ppq.executor.base import OPERATION_FORWARD_TABLE
from esp_ppq.executor.op.torch.default import DEFAULT_BACKEND_TABLE
from esp_ppq.IR import QuantableOperation
from torch import Tensor

from espdl_quantize.ppq.fast._fake_quant import NO_BOUNDS, RELU, Bounds

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


def is_plain(op: Any) -> bool:
    """Tell whether esp-ppq computes a quantizable op by its own function, in single precision."""
    return isinstance(op, QuantableOperation) and op.platform not in IN_DOUBLE and is_esp_ppqs(op)


def convolution_constants(op: Any) -> list[Tensor] | None:
    """Return the weights and, where there is one, the bias of a plain 2-d Conv, float32 on the CPU;
    None for every other op."""
    others = op.inputs[1:]
    if op.type != "Conv" or not is_plain(op) or not all(other.is_parameter for other in others):
        return None
    found = [other.value for other in others]
    if found[0].dim() != 4 or any(one.is_cuda or one.dtype != torch.float32 for one in found):
        return None
    return found


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
    # Quantized by a trained scale, a limit comes with a gradient, which nobody uses.
    limits = [limit.detach() if isinstance(limit, Tensor) else limit for limit in limits]
    least, most = (None if limit is None else float(limit) for limit in limits)
    return Bounds(-math.inf if least is None else least, math.inf if most is None else most)
