"""Runs the ops of one block with the scales that are being trained."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, cast

import torch
from esp_ppq.core import QuantizationStates
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from espdl_quantize.ppq.fast._fake_quant import (
    NO_BOUNDS,
    Bounds,
    Grid,
    fake_quantize,
    gradients,
    quantized,
)
from espdl_quantize.ppq.fast._ops import bounds_of, convolution_constants, is_plain
from espdl_quantize.ppq.fast._runner import OpError, OpRunner, channels_last, inputs_of, store
from espdl_quantize.ppq.fast.training._scales import Scales, slope
from espdl_quantize.ppq.fast.training.convolution import Geometry, convolution_gradients, convolved

Grids = tuple[Grid, Grid | None, Grid | None]
"""Of the weights, of the bias, where there is one, and of the output, where it is quantized."""


class Unit:
    """A Conv of a block, and the activation behind it that has it for itself.

    Args:
        conv: the op.
        activation: the Relu or Clip behind it, or None.
        bounds: what the activation does.
        geometry: of the convolution.
        scales: those that are being trained.

    Attributes:
        ops: both, in order.
    """

    def __init__(
        self, conv: Any, activation: Any, bounds: Bounds, geometry: Geometry, scales: Scales
    ) -> None:
        self.ops = (conv,) if activation is None else (conv, activation)
        self.bounds, self.geometry, self._scales = bounds, geometry, scales
        self._variables = conv.inputs
        self._configs = conv.config.input_quantization_config
        self._output = self.ops[-1].outputs[0].name
        self._output_config = self.ops[-1].config.output_quantization_config[0]

    def grids(self) -> Grids | None:
        """Return the grids as they are now; None where a kernel does not fit what is quantized
        here."""
        *inputs, output = self._grids()
        if any(self._scales.trained(config) is not None for config in self._configs[2:]):
            # That of a bias follows from others; esp-ppq's quantizers never leave it to itself.
            return None
        constants = [variable.value for variable in self._variables[1:]]
        for grid, value in zip(inputs, constants, strict=True):
            if grid is None or not grid.takes(value):
                return None
        if not QuantizationStates.is_activated(self._output_config.state):
            # What stands behind the block quantizes it, or nobody does.
            if self.bounds is not NO_BOUNDS:
                return None
        elif output is None or output.axis is not None:
            return None
        weight, *bias = inputs
        return cast(Grid, weight), bias[0] if bias else None, output

    def _grids(self) -> list[Grid | None]:
        found = [self._scales.grid(config) for config in self._configs[1:]]
        is_quantized = QuantizationStates.is_activated(self._output_config.state)
        return [*found, self._scales.grid(self._output_config) if is_quantized else None]

    def run(self, values: dict[str, Tensor]) -> bool:
        """Compute the output from the values of a block, and put it there.

        Returns:
            Whether the kernels fit; if not, the ops are to be run one by one.
        """
        grids = self.grids()
        if grids is None:
            return False
        first, weight, *rest = self._variables
        values[self._output] = _Convolution.apply(  # type: ignore[no-untyped-call]
            self._scales(values[first.name], self._configs[0]),
            weight.value,
            rest[0].value if rest else None,
            self._scales.trained(self._configs[1]),
            self._scales.trained(self._output_config),
            self,
            grids,
        )
        return True


def find_units(ops: Iterable[Any], kept: Collection[str], scales: Scales) -> list[Unit]:
    """Find the convolutions of a block that can run as units.

    Args:
        ops: of the block, in the order in which they run.
        kept: names of the variables that are needed besides those that a unit puts out.
        scales: those that are being trained.
    """
    inside, found = set(ops), []
    for op in ops:
        geometry = _geometry(op)
        if geometry is None:
            continue
        activation, bounds = _activation(op, inside, kept)
        unit = Unit(op, activation, bounds, geometry, scales)
        if unit.grids() is not None:
            found.append(unit)
    return found


def _geometry(op: Any) -> Geometry | None:
    """Return the geometry of a 2-d Conv of float numbers with constant weights, else None."""
    if convolution_constants(op) is None or op.inputs[0].is_parameter:
        return None
    states = [config.state for config in op.config.input_quantization_config[1:]]
    return Geometry.of(op) if all(map(QuantizationStates.is_activated, states)) else None


def _activation(conv: Any, inside: set[Any], kept: Collection[str]) -> tuple[Any, Bounds]:
    """Return the activation that is the only reader of a Conv's unquantized output, and what it
    does; None and no bounds where there is none."""
    output, config = conv.outputs[0], conv.config.output_quantization_config[0]
    readers = output.dest_ops
    if QuantizationStates.is_activated(config.state) or output.name in kept or len(readers) != 1:
        return None, NO_BOUNDS
    op, (output, *limits) = readers[0], readers[0].inputs
    if op not in inside or not is_plain(op) or not all(limit.is_parameter for limit in limits):
        return None, NO_BOUNDS
    read, *configs = op.config.input_quantization_config
    if output is not conv.outputs[0] or QuantizationStates.is_activated(read.state):
        return None, NO_BOUNDS
    fixed = (fake_quantize(one.value, config) for one, config in zip(limits, configs, strict=True))
    bounds = bounds_of(op, [None, *fixed])
    return (None if bounds is NO_BOUNDS else op), bounds


class _Convolution(Function):
    """Quantizes weights and bias, convolves, activates and quantizes again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        log2_weight: Tensor | None,
        log2_output: Tensor | None,
        unit: Unit,
        grids: Grids,
    ) -> Tensor:
        weight_grid, bias_grid, output_grid = grids
        rounded, weight = quantized(weight, weight_grid)
        addend = None
        if bias is not None and bias_grid is not None:
            addend, bias = quantized(bias, bias_grid)
        geometry = unit.geometry
        if geometry.margin is not None:
            x = functional.pad(x, geometry.margin)
        # torch keeps images of one channel the other way.
        exact: Tensor = channels_last(convolved(x, rounded, addend, geometry))
        result = exact
        if output_grid is not None:
            result, exact = quantized(exact, output_grid, unit.bounds)
        ctx.save_for_backward(x, weight, rounded, bias, exact, log2_weight, log2_output)
        ctx.grids = grids
        ctx.bounds, ctx.geometry = unit.bounds, geometry
        return result

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rounded, bias, exact, log2_weight, log2_output = ctx.saved_tensors
        weight_grid, bias_grid, output_grid = ctx.grids
        dz, doutput = dy[0], None
        if output_grid is not None:
            dz, doutput = gradients(exact, dz, output_grid, ctx.bounds)
        dx, drounded = convolution_gradients(
            dz, x, rounded, ctx.geometry, need_dx=ctx.needs_input_grad[0]
        )
        if dx is not None and ctx.geometry.margin is not None:
            dx = functional.pad(dx, [-size for size in ctx.geometry.margin])
        dweight, dscale = gradients(weight, drounded, weight_grid)
        dbias = None
        if bias is not None:
            dbias = gradients(bias, dz.sum((0, 2, 3)), bias_grid)[0]
        slopes = slope(dscale, weight_grid, log2_weight), slope(doutput, output_grid, log2_output)
        return dx, dweight, dbias, *slopes, None, None


class BlockRunner:
    """Runs a block, op by op or several at once.

    Args:
        block: an esp-ppq ``TrainableBlock``.
        device: "cpu" or "cuda".
        scales: those that are being trained.
    """

    def __init__(self, block: Any, device: str, scales: Scales) -> None:
        self.device = device
        self._runner = OpRunner(device, scales)
        self._ops = list(block.rps)
        kept = {variable.name for variable in block.ep.outputs}
        units = find_units(self._ops, kept, scales) if device == "cpu" else []
        # A unit runs where its convolution stands: nothing else reads what is between its ops.
        self._units = {op.name: unit for unit in units for op in unit.ops[:1]}
        self._covered = {op.name for unit in units for op in unit.ops[1:]}

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the values of all variables of the block.

        Raises:
            RuntimeError: an op fails; it is named.
        """
        values = {name: value.to(self.device) for name, value in inputs.items()}
        for op in self._ops:
            unit = self._units.get(op.name)
            if op.name in self._covered:
                continue
            try:
                done = unit is not None and unit.run(values)
            except Exception as error:
                raise OpError(op) from error
            if done:
                continue
            for each in (op,) if unit is None else unit.ops:
                store(each, self._runner.run(each, inputs_of(each, values)), values)
        return values

    def work(self, inputs: dict[str, Tensor]) -> int:
        """Return about how many multiplications of two numbers the block takes."""
        with torch.no_grad():
            values = self.run(inputs)
        found = 0
        for op in self._ops:
            # Of a convolution that is run with its activation, only what comes out of that is kept.
            unit = self._units.get(op.name)
            output = values[(op if unit is None else unit.ops[-1]).outputs[0].name]
            constants = [one.value for one in op.inputs[1:2] if one.is_parameter]
            if op.is_computing_op:
                found += output.numel() * sum(constant[0].numel() for constant in constants)
        return found
