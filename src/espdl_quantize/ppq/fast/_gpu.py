"""Fake quantization on a GPU in one pass over memory, where Triton is; esp-ppq's own else.

Nothing here waits for the GPU: scales stay on it.
"""

from __future__ import annotations

import functools
import math
import warnings
from types import ModuleType
from typing import Any, cast

import torch
from esp_ppq.core import QuantizationProperty, RoundingPolicy, TensorQuantizationConfig
from torch import Tensor
from torch.autograd import Function

_UP = {RoundingPolicy.ROUND_HALF_EVEN: False, RoundingPolicy.ROUND_HALF_UP: True}


@functools.cache
def kernels() -> ModuleType | None:
    """Return the kernels, once they have given torch's numbers; None where they cannot be used."""
    try:
        from espdl_quantize.ppq.fast import gpu_kernels as _gpu_kernels
    except ImportError:
        return None
    try:
        x = torch.linspace(-3, 3, 5000, device="cuda")
        scale = torch.tensor([2.0**-6], device="cuda")
        found = quantized(_gpu_kernels, x, scale, None, (-128, 127, True))
        wanted = (x / scale + 0.5).floor().clamp(-128, 127) * scale
        agrees = torch.equal(found, wanted)
    except Exception as error:
        warnings.warn(f"Triton fails on this GPU, which costs time: {error}", stacklevel=2)
        return None
    if not agrees:
        warnings.warn("Triton's kernels are not used: they give other numbers", stacklevel=2)
    return _gpu_kernels if agrees else None


def takes(tensor: Tensor, config: TensorQuantizationConfig) -> bool:
    """Tell whether there is a kernel that gives exactly esp-ppq's numbers."""
    policy = config.policy
    wanted = (
        QuantizationProperty.SYMMETRICAL,
        QuantizationProperty.LINEAR,
        QuantizationProperty.POWER_OF_2,
    )
    return (
        tensor.is_cuda
        and tensor.dtype == torch.float32
        and tensor.numel() > 0
        and config.rounding in _UP
        and all(policy.has_property(one) for one in wanted)
        and not policy.has_property(QuantizationProperty.DYNAMIC)
        and isinstance(config.scale, Tensor)
        and kernels() is not None
    )


def fake_quantize(
    tensor: Tensor, config: TensorQuantizationConfig, log2_scale: Tensor | None, *, masks: bool
) -> Tensor:
    """Quantize and dequantize a tensor that :func:`takes` takes.

    Args:
        tensor: on a GPU.
        config: how.
        log2_scale: the base-2 logarithm of the scale where that is trained, else None.
        masks: no gradient passes where a value was clipped; else it passes as it is.
    """
    axis = None
    if config.policy.has_property(QuantizationProperty.PER_CHANNEL):
        axis = config.channel_axis
    grid = config.quant_min, config.quant_max, _UP[config.rounding]
    scale = config.scale.detach() if log2_scale is None else None
    return _FakeQuant.apply(  # type: ignore[no-any-return, no-untyped-call]
        tensor, log2_scale, scale, axis, grid, masks, kernels()
    )


class _FakeQuant(Function):
    """Has the gradients of esp-ppq's TQTDelegator, or of its PPQuantFunction."""

    @staticmethod
    def forward(
        ctx: Any,
        tensor: Tensor,
        log2_scale: Tensor | None,
        scale: Tensor | None,
        axis: int | None,
        grid: tuple[int, int, bool],
        masks: bool,
        module: Any,
    ) -> Tensor:
        if log2_scale is not None:
            scale = torch.pow(2.0, torch.round(log2_scale))
        ctx.axis, ctx.grid, ctx.masks, ctx.module = axis, grid, masks, module
        ctx.save_for_backward(tensor, scale, log2_scale)
        return quantized(module, tensor, cast(Tensor, scale), axis, grid)

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        tensor, scale, log2_scale = ctx.saved_tensors
        if not ctx.masks:
            return dy[0], *[None] * 6
        dx, dscale = gradients(ctx.module, tensor, dy[0], scale, ctx.axis, ctx.grid)
        slope = None
        if log2_scale is not None:
            slope = (dscale * scale.reshape(-1) * math.log(2)).reshape(log2_scale.shape)
        return dx, slope, *[None] * 5


def quantized(
    module: Any, tensor: Tensor, scale: Tensor, axis: int | None, grid: tuple[int, int, bool]
) -> Tensor:
    """Return clip(round(tensor / scale)) * scale."""
    source = _dense(tensor, axis)
    out = torch.empty_like(source)
    scales = scale.reshape(-1)
    low, high, up = grid
    module.forward[(_programs(module, source),)](
        source,
        scales,
        scales.reciprocal(),
        out,
        source.numel(),
        _inner(source, axis),
        scales.numel(),
        float(low),
        float(high),
        UP=up,
        BLOCK=module.BLOCK,
    )
    return out


def gradients(
    module: Any,
    tensor: Tensor,
    dy: Tensor,
    scale: Tensor,
    axis: int | None,
    grid: tuple[int, int, bool],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the tensor and of the scale, [1] or one per channel."""
    source = _dense(tensor, axis)
    if dy.stride() != source.stride():
        dy = torch.empty_like(source).copy_(dy)
    dx, scales = torch.empty_like(source), scale.reshape(-1)
    low, high, up = grid
    count = _programs(module, source)
    slopes = source.new_empty(source.numel() if axis is not None else count)
    module.backward[(count,)](
        source,
        dy,
        scales.reciprocal(),
        dx,
        slopes,
        source.numel(),
        _inner(source, axis),
        scales.numel(),
        float(low),
        float(high),
        UP=up,
        PER_CHANNEL=axis is not None,
        BLOCK=module.BLOCK,
    )
    if axis is None:
        return dx, slopes.sum().reshape(1)
    return dx, slopes.view(-1, scales.numel(), _inner(source, axis)).sum((0, 2))


def _dense(tensor: Tensor, axis: int | None) -> Tensor:
    """Return the tensor without gaps; where it has channels, in the order of its axes."""
    if axis is None and torch.ops.aten.is_non_overlapping_and_dense(tensor):
        return tensor
    return tensor.contiguous()


def _inner(tensor: Tensor, axis: int | None) -> int:
    """Return how many elements in a row share a scale."""
    return tensor.numel() if axis is None else math.prod(tensor.shape[axis % tensor.dim() + 1 :])


def _programs(module: Any, tensor: Tensor) -> int:
    return -(-tensor.numel() // int(module.BLOCK))
