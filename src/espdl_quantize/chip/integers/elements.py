"""Kernels that look at one number at a time: tables, activations, changes of width."""

from __future__ import annotations

import torch
from torch import Tensor

from espdl_quantize.chip.integers._arithmetic import rescale, to_integers, to_reals
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
    # The limits have exponents of their own; doubles hold all three exactly.
    values = call.value(0).double() * 2.0 ** call.exponent(0)
    for place, limit in ((1, torch.maximum), (2, torch.minimum)):
        if call.has(place):
            values = limit(values, call.value(place).double() * 2.0 ** call.exponent(place))
    return [to_integers(values, call.out.exponent, call.out.dtype, call.facts.rounding)]


@kernel("PRelu")
def _prelu(call: Call) -> list[Tensor]:
    if call.attribute("lut", None) and call.out.dtype == "int8":
        return [_looked_up(call)]
    values, slopes = call.value(0), call.value(1)
    if slopes.numel() == values.shape[-1]:
        # One slope per channel, which are last on the chip; the exporter keeps [C, 1, 1].
        slopes = slopes.flatten()
    straight = call.stored(values, call.exponent(0))
    sloped = call.stored(values * slopes, call.exponent(0) + call.exponent(1))
    return [torch.where(values >= 0, straight, sloped)]


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
