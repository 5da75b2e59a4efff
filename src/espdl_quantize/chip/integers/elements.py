"""Kernels that look at one number at a time: tables, activations, changes of width."""

from __future__ import annotations

import torch
from torch import Tensor

from espdl_quantize.chip.integers._arithmetic import (
    LIMITS,
    rescale,
    saturate,
    to_integers,
    to_reals,
)
from espdl_quantize.chip.integers._call import Call, Unsupported, kernel


@kernel(
    "Abs",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "LUT",
    "Neg",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Sqrt",
    "Swish",
    "Tanh",
)
def _table(call: Call) -> list[Tensor]:
    return [_looked_up(call)]


@kernel("Relu")
def _relu(call: Call) -> list[Tensor]:
    if call.attribute("lut", None) and call.out.dtype == "int8":
        return [_looked_up(call)]
    return [call.stored(call.value(0).clamp(min=0), call.exponent(0))]


@kernel("Clip")
def _clip(call: Call) -> list[Tensor]:
    if call.attribute("lut", None) and call.out.dtype == "int8":
        return [_looked_up(call)]
    # The kernel compares integers, whatever the exponents are (``dl_module_clip.hpp``).
    values = call.value(0)
    for place, limit in ((1, torch.maximum), (2, torch.minimum)):
        if call.has(place):
            values = limit(values, call.value(place))
    return [call.stored(values, call.exponent(0))]


@kernel("PRelu")
def _prelu(call: Call) -> list[Tensor]:
    if call.attribute("lut", None) and call.out.dtype == "int8":
        return [_looked_up(call)]
    values, slopes = call.value(0), call.value(1)
    if slopes.numel() == values.shape[-1]:
        # One slope per channel, which are last on the chip; the exporter keeps [C, 1, 1].
        slopes = slopes.flatten()
    exponent = call.exponent(0) + call.exponent(1)
    if call.facts.vector_unit and call.node.width == "S8":
        straight = call.stored(values, call.exponent(0))
        return [torch.where(values >= 0, straight, call.stored(values * slopes, exponent))]
    # The C kernel, and the vector units' in int16, copy positives and round down
    # (``prelu_11c`` in dl/base/dl_base_prelu.cpp).
    shift = call.out.exponent - exponent
    sloped = values * slopes
    sloped = sloped << -shift if shift <= 0 else sloped >> shift
    return [saturate(torch.where(values >= 0, values, sloped), call.out.dtype)]


@kernel("Div")
def _div(call: Call) -> list[Tensor]:
    """Divide in float32 and round; by zero gives the largest integer, of zero zero
    (dl/base/dl_base_div.cpp)."""
    left, right, out = call.value(0), call.value(1), call.out
    if left.is_floating_point() or right.is_floating_point() or not out.is_integer:
        raise Unsupported("it is computed in float on the chip")
    shift = call.exponent(0) - call.exponent(1) - out.exponent
    low, high = LIMITS[out.dtype]
    quotient = left.double() * 2.0**shift / torch.where(right == 0, 1, right).double()
    rounded = to_integers(quotient.float(), 0, out.dtype, call.facts.rounding)
    by_zero = torch.where(left > 0, high, torch.where(left < 0, low, 0))
    return [torch.where(right == 0, by_zero, rounded)]


def _looked_up(call: Call) -> Tensor:
    """Read a table, as ``HardwareEmulator`` of ``espdl_lut.py`` describes the chip's kernel.

    Of the kernels for int16 only the one named LUT reads its table, says the same source.
    """
    name = call.attribute("lut", None)
    table = call.model.constants.get(name) if name else None
    if table is None or table.data is None:
        raise Unsupported("it has no lookup table, and is computed in float on the chip")
    values, entries = call.value(0), torch.from_numpy(table.data.astype("int64"))
    if table.dtype == "int8":
        return entries[values + 128]
    if call.node.op_type != "LUT":
        raise Unsupported("int16 kernels other than LUT read no table, and compute in float")
    step = 65536 // (len(entries) - 1)
    places = values + 32768
    if step & (step - 1) == 0:
        nearest = rescale(places, step.bit_length() - 1, call.facts.rounding)
        return entries[nearest.clamp(max=len(entries) - 1)]
    below = torch.div(places, step, rounding_mode="floor").clamp(max=len(entries) - 2)
    first, second = entries[below], entries[below + 1]
    along = (places - below * step) * (second - first)
    return first + torch.div(along, step, rounding_mode="trunc")


@kernel("RequantizeLinear")
def _requantize(call: Call) -> list[Tensor]:
    return [call.stored(call.value(0), call.exponent(0))]


@kernel("QuantizeLinear")
def _quantize(call: Call) -> list[Tensor]:
    out = call.out
    return [to_integers(call.value(0), out.exponent, out.dtype, call.facts.rounding)]


@kernel("DequantizeLinear")
def _dequantize(call: Call) -> list[Tensor]:
    return [to_reals(call.value(0), call.exponent(0))]
