"""Kernels that add up: products, pools and elements.

Sums are taken by torch in double precision. Products of integers of 16 bits are integers below
2**30; as long as the sum of their magnitudes stays below 2**53, every partial sum in any order is
an integer that a double holds exactly, so that no addition rounds and the result is the integer
sum itself. ``_exact`` makes sure of it. It holds for direct convolution and matrix products, which
is what torch runs on a CPU in double precision; a transform of the inputs (Winograd, FFT) would
round, and is not used there.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from espdl_quantize.chip.integers._arithmetic import saturate, to_integers
from espdl_quantize.chip.integers._call import Call, Unsupported, kernel
from espdl_quantize.chip.integers._unpack import unpack, unpack_matrices

_DOUBLE = 2**53


def _exact(left: Tensor, right: Tensor, terms: int) -> None:
    largest = int(left.abs().max()) * int(right.abs().max()) if left.numel() else 0
    if largest * terms >= _DOUBLE:
        raise Unsupported("its sums may exceed 53 bits")


def _activated(call: Call, values: Tensor) -> Tensor:
    activation = call.attribute("activation", "Linear")
    if activation == "Relu":
        return values.clamp(min=0)
    if activation != "Linear":
        raise Unsupported(f"the fused activation {activation}")
    return values


def _finish(call: Call, total: Tensor, channels: int) -> Tensor:
    """Add the bias and store; the channels are last."""
    bias = call.constant(2)
    if bias is not None:
        total = total + call.value(2)
    call.count_overflows(total)
    weight = call.constant(1)
    exponents = torch.tensor(weight.exponents if weight else (call.exponent(1),))
    if len(exponents) not in (1, channels):
        raise Unsupported(f"{len(exponents)} exponents for {channels} channels")
    return _activated(call, call.stored(total, exponents + call.exponent(0)))


@kernel("Conv")
def _conv(call: Call) -> list[Tensor]:
    weight = call.constant(1)
    if weight is None or weight.data is None:
        raise Unsupported("its weight is computed")
    if call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Unsupported("auto_pad")
    group = int(call.attribute("group", 1))
    kernels = unpack(weight, call.align, grouped=group > 1)
    image = call.value(0)
    flat = image.dim() == 3
    if flat:
        image = image.unsqueeze(1)
    image = image.permute(0, 3, 1, 2)
    _exact(image, kernels, math.prod(kernels.shape[1:]))
    pads = list(call.attribute("pads", (0,) * (2 if flat else 4)))
    strides = tuple(call.attribute("strides", (1,) * (1 if flat else 2)))
    dilations = tuple(call.attribute("dilations", (1,) * (1 if flat else 2)))
    if flat:
        pads, strides, dilations = [0, pads[0], 0, pads[1]], (1, *strides), (1, *dilations)
    top, left, bottom, right = pads
    padded = functional.pad(image.double(), (left, right, top, bottom))
    total = functional.conv2d(
        padded, kernels.double(), stride=strides, dilation=dilations, groups=group
    )
    channels_last = total.long().permute(0, 2, 3, 1)
    if flat:
        channels_last = channels_last.squeeze(1)
    return [_finish(call, channels_last, kernels.shape[0])]


@kernel("Gemm")
def _gemm(call: Call) -> list[Tensor]:
    weight = call.constant(1)
    if weight is None or weight.data is None:
        raise Unsupported("its weight is computed")
    if call.attribute("transA", 0):
        raise Unsupported("transA")
    matrix = unpack(weight, call.align, grouped=False)[:, :, 0, 0]
    rows = call.value(0)
    _exact(rows, matrix, matrix.shape[1])
    total = (rows.double() @ matrix.double().T).long()
    return [_finish(call, total, matrix.shape[0])]


@kernel("MatMul")
def _matmul(call: Call) -> list[Tensor]:
    weight = call.constant(1)
    packed = call.attribute("input1_layout", "packed") == "packed"
    if weight is None and packed:
        raise Unsupported("a computed right-hand side that is packed")
    right = unpack_matrices(weight, call.align) if weight is not None else call.value(1)
    left = call.value(0)
    _exact(left, right, right.shape[-2])
    total = (left.double() @ right.double()).long()
    return [_finish(call, total, right.shape[-1])]


@kernel("Mul")
def _mul(call: Call) -> list[Tensor]:
    total = call.value(0) * call.value(1)
    return [call.stored(total, call.exponent(0) + call.exponent(1))]


@kernel("Add", "Sub")
def _add(call: Call) -> list[Tensor]:
    """Add raw integers, as the chip does: it reads the exponents neither of inputs nor of output.

    Of a file with unequal ones this gives the chip's wrong numbers; the rule "one exponent" refuses
    such a file.
    """
    left, right, out = call.value(0), call.value(1), call.out
    if left.is_floating_point() or right.is_floating_point() or not out.is_integer:
        raise Unsupported("it is computed in float on the chip")
    return [saturate(left + right if call.node.op_type == "Add" else left - right, out.dtype)]


@kernel("GlobalAveragePool")
def _global_average(call: Call) -> list[Tensor]:
    image = call.value(0)
    axes = tuple(range(1, image.dim() - 1))
    area = math.prod(image.shape[axis] for axis in axes)
    return [_mean(call, image.sum(dim=axes, keepdim=True), area)]


@kernel("AveragePool")
def _average_pool(call: Call) -> list[Tensor]:
    """Divide by the whole window, padding included, whatever ``count_include_pad`` says: the kernel
    does not read it, nor does the simulation (``get_pool_args`` in dl/base/dl_base_pool2d.hpp)."""
    image, size, pads, options = pool_arguments(call)
    if call.attribute("ceil_mode", 0):
        raise Unsupported("ceil_mode")
    top, left, bottom, right = pads
    padded = functional.pad(image.double(), (left, right, top, bottom))
    total = functional.avg_pool2d(padded, size, options["stride"], divisor_override=1)
    return [_mean(call, total.long(), math.prod(size)).permute(0, 2, 3, 1)]


def _mean(call: Call, total: Tensor, area: int) -> Tensor:
    """Multiply by the reciprocal of an area in float32, as ``avgpool2d_hwc`` does."""
    out = call.out
    if not out.is_integer:
        raise Unsupported(f"its output is {out.dtype}")
    inverse = np.float32(1) / np.float32(area)
    scale = np.float32(2.0 ** call.exponent(0)) * inverse * np.float32(2.0**-out.exponent)
    return to_integers(total.float() * float(scale), 0, out.dtype, call.facts.rounding)


@kernel("ReduceMean", "ReduceSum")
def _reduce(call: Call) -> list[Tensor]:
    values = call.value(0)
    axes = reduced_axes(call, values)
    total = values.sum(dim=axes, keepdim=bool(call.attribute("keepdims", 1)))
    mean = call.node.op_type == "ReduceMean"
    count = math.prod(values.shape[axis] for axis in axes) if mean else 1
    return [call.stored(total, call.exponent(0), count)]


def reduced_axes(call: Call, values: Tensor) -> tuple[int, ...]:
    """Return the axes of a reduction; all of them where none are named."""
    axes = call.numbers(1) if call.has(1) else list(call.attribute("axes", ()))
    if not axes and call.attribute("noop_with_empty_axes", 0):
        raise Unsupported("noop_with_empty_axes")
    return tuple(axis % values.dim() for axis in axes) or tuple(range(values.dim()))


def pool_arguments(
    call: Call,
) -> tuple[Tensor, tuple[int, ...], tuple[int, ...], dict[str, tuple[int, ...]]]:
    """Return image [N, C, H, W], window, pads (top, left, bottom, right) and stride, dilation."""
    image = call.value(0)
    if image.dim() != 4 or call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Unsupported("a pool that is not two-dimensional, or auto_pad")
    options = {
        "stride": tuple(call.attribute("strides", (1, 1))),
        "dilation": tuple(call.attribute("dilations", (1, 1))),
    }
    pads = tuple(call.attribute("pads", (0, 0, 0, 0)))
    return image.permute(0, 3, 1, 2), tuple(call.attribute("kernel_shape", ())), pads, options
