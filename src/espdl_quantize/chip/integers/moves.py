"""Kernels that hand integers on: no arithmetic, so no rounding."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from espdl_quantize.chip.integers._arithmetic import to_integers, to_reals
from espdl_quantize.chip.integers._call import Call, Unsupported, kernel
from espdl_quantize.chip.integers.sums import pool_arguments, reduced_axes


@kernel("Identity")
def _identity(call: Call) -> list[Tensor]:
    return [call.value(0)]


@kernel("Concat")
def _concat(call: Call) -> list[Tensor]:
    values = [call.value(place) for place in range(len(call.node.inputs))]
    return [torch.cat(values, dim=int(call.attribute("axis", 0)))]


@kernel("Transpose")
def _transpose(call: Call) -> list[Tensor]:
    values = call.value(0)
    reversed_axes = tuple(range(values.dim()))[::-1]
    return [values.permute(tuple(call.attribute("perm", reversed_axes)))]


@kernel("Reshape")
def _reshape(call: Call) -> list[Tensor]:
    values, sizes = call.value(0), call.numbers(1)
    if not call.attribute("allowzero", 0):
        sizes = [size or values.shape[axis] for axis, size in enumerate(sizes)]
    return [values.reshape(sizes)]


@kernel("Flatten")
def _flatten(call: Call) -> list[Tensor]:
    values, axis = call.value(0), int(call.attribute("axis", 1))
    return [values.reshape(math.prod(values.shape[: axis % (values.dim() + 1)]), -1)]


@kernel("Squeeze")
def _squeeze(call: Call) -> list[Tensor]:
    values = call.value(0)
    return [values.squeeze(tuple(call.numbers(1))) if call.has(1) else values.squeeze()]


@kernel("Unsqueeze")
def _unsqueeze(call: Call) -> list[Tensor]:
    values, axes = call.value(0), call.numbers(1)
    rank = values.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        values = values.unsqueeze(axis)
    return [values]


@kernel("Slice")
def _slice(call: Call) -> list[Tensor]:
    values = call.value(0)
    starts, ends = call.numbers(1), call.numbers(2)
    axes = call.numbers(3) if call.has(3) else list(range(len(starts)))
    steps = call.numbers(4) if call.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise Unsupported("a slice that runs backwards")
        taken = range(values.shape[axis])[start:end:step]
        values = values.index_select(axis, torch.tensor(list(taken), dtype=torch.int64))
    return [values]


@kernel("Split")
def _split(call: Call) -> list[Tensor]:
    values, axis = call.value(0), int(call.attribute("axis", 0))
    count = len(call.node.outputs)
    sizes = call.numbers(1) if call.has(1) else [values.shape[axis] // count] * count
    return list(torch.split(values, sizes, dim=axis))


@kernel("Gather")
def _gather(call: Call) -> list[Tensor]:
    values, axis = call.value(0), int(call.attribute("axis", 0))
    places = torch.tensor(call.numbers(1), dtype=torch.int64) % values.shape[axis]
    picked = values.index_select(axis, places)
    shape = call.value(1).shape
    axis %= values.dim()
    return [picked.reshape(*values.shape[:axis], *shape, *values.shape[axis + 1 :])]


@kernel("Pad")
def _pad(call: Call) -> list[Tensor]:
    values = call.value(0)
    if call.attribute("mode", "constant") != "constant" or call.has(3):
        raise Unsupported("a padding that is not by a constant on all axes")
    pads = call.numbers(1)
    fill = call.numbers(2)[0] if call.has(2) and call.value(2).numel() else 0
    if fill:
        raise Unsupported("a padding with something else than zeros")
    rank = values.dim()
    pairs = [size for axis in reversed(range(rank)) for size in (pads[axis], pads[rank + axis])]
    return [functional.pad(values, pairs)]


@kernel("InsertZeros")
def _insert_zeros(call: Call) -> list[Tensor]:
    """Spread pixels apart, as ``InsertZeros_forward`` of ``executor/op/torch/default.py``."""
    image, shape = call.value(0), call.out.shape
    stride = call.attribute("stride", 1)
    spatial = image.dim() - 2
    strides = (stride,) * spatial if isinstance(stride, int) else tuple(stride)
    if shape is None or len(shape) != image.dim():
        raise Unsupported("its output has no shape")
    found = torch.zeros(shape, dtype=image.dtype)
    inside = (
        slice(0, step * (size - 1) + 1, step)
        for step, size in zip(strides, image.shape[1:-1], strict=True)
    )
    places = (slice(None), *inside)
    found[places] = image
    return [found]


@kernel("MaxPool")
def _max_pool(call: Call) -> list[Tensor]:
    image, size, pads, options = pool_arguments(call)
    if call.attribute("ceil_mode", 0):
        raise Unsupported("ceil_mode")
    top, left, bottom, right = pads
    padded = functional.pad(image.double(), (left, right, top, bottom), value=-math.inf)
    found = functional.max_pool2d(padded, size, options["stride"], 0, options["dilation"])
    return [found.long().permute(0, 2, 3, 1)]


@kernel("GlobalMaxPool")
def _global_max(call: Call) -> list[Tensor]:
    image = call.value(0)
    return [image.amax(dim=tuple(range(1, image.dim() - 1)), keepdim=True)]


@kernel("ReduceMax", "ReduceMin")
def _extreme(call: Call) -> list[Tensor]:
    values = call.value(0)
    axes, keep = reduced_axes(call, values), bool(call.attribute("keepdims", 1))
    if call.node.op_type == "ReduceMax":
        return [values.amax(dim=axes, keepdim=keep)]
    return [values.amin(dim=axes, keepdim=keep)]


@kernel("DepthToSpace")
def _depth_to_space(call: Call) -> list[Tensor]:
    """Spread channels over pixels (``dl_module_depth_to_space.hpp``)."""
    image, block = call.value(0), int(call.attribute("blocksize", 1))
    samples, height, width, channels = image.shape
    depth = channels // block**2
    if call.attribute("mode", "DCR") == "DCR":
        parts = image.reshape(samples, height, width, block, block, depth)
        spread = parts.permute(0, 1, 3, 2, 4, 5)
    else:
        parts = image.reshape(samples, height, width, depth, block, block)
        spread = parts.permute(0, 1, 4, 2, 5, 3)
    return [spread.reshape(samples, height * block, width * block, depth)]


def _bilinear(call: Call) -> list[Tensor]:
    """Interpolate in float32 and round (``resize_linear_c1`` in dl/base/dl_base_resize.cpp)."""
    image, shape, out = call.value(0), call.out.shape, call.out
    if shape is None or image.dim() not in (3, 4):
        raise Unsupported("its output has no shape")
    # Torch adds in another order where channels lie last in memory; so ordered, as the kernel does.
    reals = to_reals(image, call.exponent(0)).movedim(-1, 1).contiguous()
    corners = call.attribute("coordinate_transformation_mode", "half_pixel") == "align_corners"
    resized = functional.interpolate(
        reals,
        size=tuple(shape[1:-1]),
        mode="bilinear" if image.dim() == 4 else "linear",
        align_corners=corners,
    )
    found = to_integers(resized, out.exponent, out.dtype, call.facts.rounding)
    return [found.movedim(1, -1)]


@kernel("Resize")
def _resize(call: Call) -> list[Tensor]:
    """Nearest neighbour, by ONNX's definition of the two roundings that exporters write."""
    image, shape = call.value(0), call.out.shape
    if call.attribute("mode", "nearest") == "linear":
        return _bilinear(call)
    ways = (
        call.attribute("mode", "nearest"),
        call.attribute("coordinate_transformation_mode", "half_pixel"),
        call.attribute("nearest_mode", "round_prefer_floor"),
    )
    if ways != ("nearest", "asymmetric", "floor") or shape is None:
        raise Unsupported(f"{' '.join(ways)}")
    for axis, size in enumerate(shape):
        if size != image.shape[axis]:
            places = torch.arange(size) * image.shape[axis] // size
            image = image.index_select(axis, places)
    return [call.stored(image, call.exponent(0))]
