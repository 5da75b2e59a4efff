"""Where a quantized graph may keep images with their channels last, and change no bit by it.

Convolutions run up to several times faster so on a CPU, and add in another order. Where inputs,
weights and bias are integers times powers of two, and no sum can leave the integers that a float32
holds, every order gives the same number to the last bit: int8 convolutions of up to a thousand
terms are so, unless their bias is huge. Elementwise arithmetic does not depend on the order in
memory at all. Every other op gets its images as esp-ppq would give them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.IR import QuantableOperation
from torch import Tensor

from espdl_quantize.ppq.fast._fake_quant import Grid, by_channel, grid_of, quantized
from espdl_quantize.ppq.fast._ops import convolution_constants, is_esp_ppqs

_EXACT = 1 << 24
"""Integers up to here are float32 numbers, and so are all sums of them up to here."""

_ELEMENTWISE = frozenset({"Relu", "Clip", "Add", "Sub", "Mul", "MaxPool", "Concat", "Identity"})
"""Types whose numbers do not depend on the layout."""

_MOVING = frozenset(
    {"MaxPool", "Flatten", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Slice"}
)
"""Types that put out what they read, at other places."""


@dataclass(frozen=True)
class Layout:
    """Where the channels come last.

    Attributes:
        convolutions: names of the Convs that read and write them so.
        images: names of the variables that are written so.
    """

    convolutions: frozenset[str]
    images: frozenset[str]

    @classmethod
    def of(cls, graph: Any) -> Layout:
        """Decide for a graph in the state that it is in."""
        integers: dict[str, _Integers] = {}
        convolutions, images = set(), set()
        for op in graph.topological_sort():
            read = [variable.name for variable in op.inputs]
            if _is_exact(op, integers.get(read[0]) if read else None):
                convolutions.add(op.name)
                images.add(op.outputs[0].name)
            elif op.type in _ELEMENTWISE and is_esp_ppqs(op) and images.intersection(read):
                images |= {variable.name for variable in op.outputs}
            integers |= _written(op, integers)
        return cls(frozenset(convolutions), frozenset(images))

    def arrange(self, op: Any, values: list[Any]) -> list[Any]:
        """Return the inputs of an op in the layout that it is to read."""
        if op.name in self.convolutions:
            first = values[0].contiguous(memory_format=torch.channels_last)
            return [first, *values[1:]]
        if not self.images or any(output.name in self.images for output in op.outputs):
            return values
        return [
            value.contiguous() if variable.name in self.images else value
            for value, variable in zip(values, op.inputs, strict=False)
        ]


@dataclass(frozen=True)
class _Integers:
    """Numbers that are integers times a step, a power of two.

    Attributes:
        step: the unit.
        largest: no integer is larger, nor smaller than its negative.
    """

    step: float
    largest: int


def _grid(config: Any) -> Grid | None:
    """Return the grid that numbers lie on where a configuration is at work, else None."""
    baked = (QuantizationStates.BAKED, QuantizationStates.PASSIVE_BAKED)
    if config.state in baked or QuantizationStates.is_activated(config.state):
        return grid_of(config)
    return None


def _written(op: Any, integers: Mapping[str, _Integers]) -> dict[str, _Integers]:
    """Return what is known of the numbers that an op puts out."""
    if not isinstance(op, QuantableOperation):
        return {}
    found, read = {}, integers.get(op.inputs[0].name) if op.inputs else None
    for variable, config in zip(op.outputs, op.config.output_quantization_config, strict=False):
        grid = _grid(config)
        if grid is not None and grid.axis is None:
            found[variable.name] = _Integers(grid.scale, max(-grid.low, grid.high))
        elif grid is None and read is not None and op.type in _MOVING and is_esp_ppqs(op):
            found[variable.name] = read
    return found


def _is_exact(op: Any, read: _Integers | None) -> bool:
    """Tell whether an op is a Conv of which no order of adding changes a bit."""
    constants = convolution_constants(op)
    if constants is None:
        return False
    first, *configs = op.config.input_quantization_config
    own = _grid(first)
    if own is not None and own.axis is None:
        read = _Integers(own.scale, max(-own.low, own.high))
    grids = [_grid(config) for config in configs]
    if read is None or None in grids:
        return False
    return _largest_sum(read, constants, grids) < _EXACT  # type: ignore[arg-type]


def _largest_sum(read: _Integers, constants: list[Tensor], grids: list[Grid]) -> float:
    """Return a bound of a Conv's sums, in units of the products that are added; infinite where the
    bias is no integer in these."""
    weight, grid = constants[0], grids[0]
    terms = weight[0].numel()
    if grid.axis not in (None, 0):
        return float("inf")
    step = torch.as_tensor(grid.scale, dtype=torch.float64).reshape(-1)
    bias = 0.0
    if len(constants) > 1:
        units = quantized(constants[1], grids[1])[0].double() / (read.step * step)
        if not torch.equal(units, units.round()):
            return float("inf")
        bias = float(units.abs().max())
    simple = terms * read.largest * max(-grid.low, grid.high) + bias
    if simple < _EXACT:
        return simple
    rows = by_channel(quantized(weight, grid)[0].numpy(), weight.shape, 0)[0]
    sums = torch.from_numpy(rows).double().abs().sum(1) / step
    return float(sums.max()) * read.largest + bias
