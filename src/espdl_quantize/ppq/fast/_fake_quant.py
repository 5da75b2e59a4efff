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
from torch.nn import functional

from espdl_quantize.ppq.fast import _gpu as gpu
from espdl_quantize.ppq.fast import _kernels as kernels

_UP = {RoundingPolicy.ROUND_HALF_EVEN: False, RoundingPolicy.ROUND_HALF_UP: True}
_TYPES = (torch.float32, torch.float64)

_EXPONENTS = 120
"""Of a scale, at most: its inverse is a normal float32 number then."""


@dataclass(frozen=True)
class Bounds:
    """An activation of the form min(max(x, least), most).

    Attributes:
        least: the smallest value that comes out.
        most: the largest.
        strict: no gradient passes at the bounds themselves, as with Relu.
    """

    least: float = -math.inf
    most: float = math.inf
    strict: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """Return the activation of a tensor by torch."""
        if self is NO_BOUNDS:
            return tensor
        return functional.relu(tensor) if self.strict else tensor.clamp(self.least, self.most)

    def put_on(self, tensor: Tensor) -> Tensor:
        """Write the activation of a tensor over it."""
        return tensor.relu_() if self.strict else tensor.clamp_(self.least, self.most)


NO_BOUNDS = Bounds()
RELU = Bounds(0.0, strict=True)


@dataclass(frozen=True)
class Grid:
    """The integers that a tensor is rounded to.

    Attributes:
        scale: a number, or a one-dimensional array of one number per channel.
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

    def takes(self, tensor: Tensor, bounds: Bounds = NO_BOUNDS) -> bool:
        """Tell whether there is a kernel for an activation of a tensor and this quantization in one
        pass.

        Where the scales are not one for each channel of the tensor, esp-ppq broadcasts or fails.
        """
        if self.axis is None:
            return True
        is_axis = 0 <= self.axis < tensor.dim()
        return is_axis and tensor.shape[self.axis] == len(self.scale) and bounds is NO_BOUNDS


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
    """Return the grid of a configuration with another scale; None as in grid_of.

    Args:
        config: how a tensor is quantized.
        scale: a number or an array. That of a tensor with one channel may have no dimension, also
            where there is a scale per channel.
    """
    axis = None
    if config.policy.has_property(QuantizationProperty.PER_CHANNEL):
        axis = config.channel_axis
        scale = np.reshape(scale, -1)
        mantissas, exponents = np.frexp(scale)
        if not ((mantissas == 0.5) & (abs(exponents) <= _EXPONENTS)).all():
            return None
    else:
        if np.size(scale) != 1:
            return None
        scale = float(np.reshape(scale, ())) if np.ndim(scale) else float(scale)
        mantissa, exponent = math.frexp(scale)
        if mantissa != 0.5 or abs(exponent) > _EXPONENTS:
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


def quantized(tensor: Tensor, grid: Grid, bounds: Bounds = NO_BOUNDS) -> tuple[Tensor, Tensor]:
    """Return clip(round(x / scale)) * scale of the activation of x, and x as it was read, dense.

    Where there is a scale per channel, there is no activation.
    """
    if grid.axis is not None:
        tensor = tensor.contiguous()
    tensor, source = flat(tensor)
    result = torch.empty_like(tensor)
    target = flat(result)[1]
    fixed = grid.scale, grid.low, grid.high, grid.up
    if grid.axis is None:
        kernels.forward(source, *fixed, bounds.least, bounds.most, target)
    else:
        source, target = (by_channel(one, tensor.shape, grid.axis) for one in (source, target))
        kernels.forward_channels(source, *fixed, target)
    return result, tensor


def gradients(
    tensor: Tensor, dy: Tensor, grid: Grid, bounds: Bounds = NO_BOUNDS
) -> tuple[Tensor, Any]:
    """Return the gradients of what :func:`quantized` read and of the scale.

    No gradient passes where a value was clipped. That of the scale is a number or one per channel.
    """
    source, gradient = flat(tensor)[1], flat(like(dy, tensor))[1]
    dx = torch.empty_like(tensor)
    target = flat(dx)[1]
    fixed = grid.scale, grid.low, grid.high, grid.up
    if grid.axis is None:
        limits = bounds.least, bounds.most, bounds.strict
        return dx, kernels.backward(source, gradient, *fixed, *limits, target)
    source, gradient, target = (
        by_channel(one, tensor.shape, grid.axis) for one in (source, gradient, target)
    )
    total = np.empty(source.shape[1])
    kernels.backward_channels(source, gradient, *fixed, target, total)
    return dx, total


class _FakeQuant(Function):
    """Has esp-ppq's gradient: none where a value per tensor was clipped; per channel, all of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, grid: Grid, bounds: Bounds) -> Tensor:
        result, dense = quantized(tensor, grid, bounds)
        ctx.grid, ctx.bounds = grid, bounds
        if grid.axis is None:
            ctx.save_for_backward(dense)
        return result

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor, None, None]:
        if ctx.grid.axis is not None:
            return dy[0], None, None
        return gradients(ctx.saved_tensors[0], dy[0], ctx.grid, ctx.bounds)[0], None, None


def fake_quantize(tensor: Any, config: TensorQuantizationConfig, bounds: Bounds = NO_BOUNDS) -> Any:
    """Quantize and dequantize an activation of a tensor, bit for bit as ``PPQuantFunction``.

    Args:
        tensor: any tensor, or None, which stays None.
        config: where its state is not an active one, nothing is quantized.
        bounds: the activation; none by default.
    """
    if tensor is None:
        return tensor
    if not QuantizationStates.is_activated(config.state):
        return bounds.of(tensor)
    if tensor.is_cuda and gpu.takes(tensor, config):
        masks = not config.policy.has_property(QuantizationProperty.PER_CHANNEL)
        return gpu.fake_quantize(bounds.of(tensor), config, None, masks=masks)
    grid = grid_of(config) if fits(tensor) else None
    if grid is None or not grid.takes(tensor, bounds):
        return PPQuantFunction(bounds.of(tensor), config)
    if tensor.requires_grad and torch.is_grad_enabled():
        return _FakeQuant.apply(tensor, grid, bounds)  # type: ignore[no-untyped-call]
    return quantized(tensor.detach(), grid, bounds)[0]


def fits(tensor: Tensor) -> bool:
    """Tell whether there is a kernel for tensors of this kind.

    To one without a dimension, esp-ppq's arithmetic gives the type and the dimension of the scale.
    """
    is_dense = tensor.dim() > 0 and tensor.numel() > 0
    return is_dense and tensor.dtype in _TYPES and not tensor.is_cuda
