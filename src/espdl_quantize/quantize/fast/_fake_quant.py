"""esp-ppq's fake quantization in one pass over memory, where a kernel fits; esp-ppq's own else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from esp_ppq.core import (
    QuantizationProperty,
    QuantizationStates,
    RoundingPolicy,
    TensorQuantizationConfig,
)
from esp_ppq.quantization.qfunction import PPQuantFunction
from torch import Tensor
from torch.autograd import Function

from espdl_quantize.quantize.fast import _kernels as kernels

_UP = {RoundingPolicy.ROUND_HALF_EVEN: False, RoundingPolicy.ROUND_HALF_UP: True}
_TYPES: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}


@dataclass(frozen=True)
class Grid:
    """The integers that a tensor is rounded to.

    Attributes:
        scale: a number, or an array of one number per channel.
        axis: of the channels; None for one scale.
        low: the smallest integer.
        high: the largest.
        up: halves are rounded upwards; else to even.
    """

    scale: Any
    axis: int | None
    low: int
    high: int
    up: bool

    def scalars(self, kind: Any) -> tuple[Any, ...]:
        """Return 1/scale, scale, low, high and 0.5 in the type of the data."""
        if self.axis is not None:
            scale = self.scale.astype(kind)
            return 1 / scale, scale, kind(self.low), kind(self.high), kind(0.5)
        return kind(1 / self.scale), kind(self.scale), kind(self.low), kind(self.high), kind(0.5)


def grid_of(config: TensorQuantizationConfig) -> Grid | None:
    """Return the grid of a configuration; None where no kernel gives exactly esp-ppq's numbers.

    Every scale must be a power of two, as ESP-DL's are: dividing and multiplying by its inverse
    are the same then.
    """
    policy = config.policy
    if config.rounding not in _UP or not policy.has_property(QuantizationProperty.SYMMETRICAL):
        return None
    if not policy.has_property(QuantizationProperty.LINEAR) or policy.has_property(
        QuantizationProperty.DYNAMIC
    ):
        return None
    scale = config.scale
    if not isinstance(scale, Tensor) or scale.is_cuda:
        return None
    return make_grid(config, scale.detach().numpy())


def make_grid(config: TensorQuantizationConfig, scale: Any) -> Grid | None:
    """Return the grid of a configuration with another scale, an array; None as in grid_of."""
    axis = None
    if config.policy.has_property(QuantizationProperty.PER_CHANNEL):
        axis = config.channel_axis
        powers = np.frexp(scale)[0] == 0.5
        if not powers.all():
            return None
    else:
        scale = float(scale)
        if math.frexp(scale)[0] != 0.5:
            return None
    return Grid(scale, axis, config.quant_min, config.quant_max, _UP[config.rounding])


def flat(tensor: Tensor) -> tuple[Tensor, Any]:
    """Return a dense tensor and its memory as a flat array; copies where it is not dense."""
    if tensor.is_contiguous():
        return tensor, tensor.numpy().reshape(-1)
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor, tensor.permute(0, 2, 3, 1).numpy().reshape(-1)
    return flat(tensor.contiguous())


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return the tensor in the memory layout of another of its shape."""
    if tensor.stride() == other.stride():
        return tensor
    return torch.empty_like(other).copy_(tensor)


def by_channel(array: Any, shape: torch.Size, axis: int) -> Any:
    """Return a flat array of that shape as [outer, channel, inner]."""
    axis %= len(shape)
    return array.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def quantized(tensor: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return clip(round(x / scale)) * scale, and x as it was read, dense."""
    kind = _TYPES[tensor.dtype]
    if grid.axis is not None:
        tensor = tensor.contiguous()
    tensor, source = flat(tensor)
    result = torch.empty_like(tensor)
    target = flat(result)[1]
    inverse, scale, low, high, half = grid.scalars(kind)
    if grid.axis is None:
        kernels.forward(source, inverse, scale, low, high, half, grid.up, target)
    else:
        source, target = (by_channel(one, tensor.shape, grid.axis) for one in (source, target))
        kernels.forward_channels(source, inverse, scale, low, high, half, grid.up, target)
    return result, tensor


class _FakeQuant(Function):
    """Has esp-ppq's gradient: none where a value per tensor was clipped; per channel, all of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, grid: Grid) -> Tensor:
        result, dense = quantized(tensor, grid)
        ctx.grid = grid
        if grid.axis is None:
            ctx.save_for_backward(dense)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        dy, grid = gradients[0], ctx.grid
        if grid.axis is not None:
            return dy, None
        return masked(ctx.saved_tensors[0], dy, grid), None


def masked(tensor: Tensor, dy: Tensor, grid: Grid) -> Tensor:
    """Return the gradient where nothing was clipped, else 0; one scale per tensor."""
    inverse, _, low, high, half = grid.scalars(_TYPES[tensor.dtype])
    dx = torch.empty_like(tensor)
    arrays = (flat(tensor)[1], flat(like(dy, tensor))[1])
    kernels.masked(*arrays, inverse, low, high, half, grid.up, flat(dx)[1])
    return dx


def fake_quantize(tensor: Any, config: TensorQuantizationConfig) -> Any:
    """Quantize and dequantize, bit for bit as esp-ppq's ``PPQuantFunction``.

    Args:
        tensor: any tensor, or None, which stays None.
        config: where its state is not an active one, the tensor is returned as it is.
    """
    if tensor is None or not QuantizationStates.is_activated(config.state):
        return tensor
    if not fits(tensor):
        return PPQuantFunction(tensor, config)
    grid = grid_of(config)
    if grid is None:
        return PPQuantFunction(tensor, config)
    if tensor.requires_grad and torch.is_grad_enabled():
        return _FakeQuant.apply(tensor, grid)  # type: ignore[no-untyped-call]
    return quantized(tensor.detach(), grid)[0]


def fits(tensor: Tensor) -> bool:
    """Tell whether there is a kernel for tensors of this kind."""
    return tensor.dtype in _TYPES and not tensor.is_cuda and tensor.numel() > 0
