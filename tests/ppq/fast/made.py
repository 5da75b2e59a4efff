"""Configurations and values that fake quantization is tested with."""

from __future__ import annotations

import torch
from esp_ppq.core import (
    QuantizationPolicy,
    QuantizationProperty,
    QuantizationStates,
    RoundingPolicy,
    TensorQuantizationConfig,
)
from torch import Tensor

ROUNDINGS = (RoundingPolicy.ROUND_HALF_EVEN, RoundingPolicy.ROUND_HALF_UP)
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
}


def configuration(
    rounding: RoundingPolicy, axis: int | None, bits: int, shape: torch.Size
) -> TensorQuantizationConfig:
    kind = QuantizationProperty.PER_TENSOR if axis is None else QuantizationProperty.PER_CHANNEL
    policy = QuantizationProperty.SYMMETRICAL + QuantizationProperty.LINEAR
    exponents = torch.arange(1.0, 1 + (1 if axis is None else shape[axis])) + 3
    scale = torch.pow(2.0, -exponents)
    scale = scale[0] if axis is None else scale
    return TensorQuantizationConfig(
        policy=QuantizationPolicy(policy + QuantizationProperty.POWER_OF_2 + kind),
        rounding=rounding,
        num_of_bits=bits,
        quant_min=-(2 ** (bits - 1)),
        quant_max=2 ** (bits - 1) - 1,
        scale=scale,
        offset=torch.zeros_like(scale),
        observer_algorithm="minmax",
        state=QuantizationStates.ACTIVATED,
        channel_axis=axis,
    )


def values(dtype: torch.dtype) -> Tensor:
    """Random values, exact halves of the grid among them, and some that are clipped."""
    torch.manual_seed(0)
    x = torch.randn(6, 7, 5, 4, dtype=dtype) * 6
    x.view(-1)[:200] = torch.arange(-100, 100, dtype=dtype) * 2.0**-5
    return x
