"""Runs ops one by one, as esp-ppq's TorchExecutor does, on values that the caller keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.executor.base import OPERATION_FORWARD_TABLE
from esp_ppq.executor.op import TorchBackendContext
from esp_ppq.IR import QuantableOperation
from esp_ppq.quantization.qfunction import PPQuantFunction
from torch import Tensor

from espdl_quantize.contract import Batch
from espdl_quantize.ppq.fast._fake_quant import NO_BOUNDS, Bounds, fake_quantize
from espdl_quantize.ppq.fast._layout import Layout
from espdl_quantize.ppq.fast._ops import IN_DOUBLE, bounds_of

Quantize = Callable[[Any, Any, Bounds], Any]
"""``(tensor, configuration, activation) -> tensor``: the activation of the tensor, quantized."""


class OpError(RuntimeError):
    """An op fails.

    Args:
        op: an esp-ppq ``Operation``.

    Attributes:
        op_name: its name.
    """

    def __init__(self, op: Any) -> None:
        # esp-ppq's own words, which the failure report looks for.
        super().__init__(f"Op Execution Error: {op}")
        self.op_name = str(op.name)


def quantize_plainly(tensor: Any, config: Any, bounds: Bounds = NO_BOUNDS) -> Any:
    """Quantize the activation of a tensor by esp-ppq alone."""
    if tensor is None:
        return tensor
    if not QuantizationStates.is_activated(config.state):
        return bounds.of(tensor)
    return PPQuantFunction(bounds.of(tensor), config)


class OpRunner:
    """Runs single ops on a device.

    Args:
        device: "cpu" or "cuda".
        quantize: what quantizes a tensor under a configuration.
        layout: where images have their channels last; None leaves them as they come.
    """

    def __init__(
        self, device: str, quantize: Quantize = fake_quantize, layout: Layout | None = None
    ) -> None:
        self.device, self.layout = device, layout
        self._context = TorchBackendContext(executing_device=device)
        self._quantize = quantize

    def run(
        self,
        op: Any,
        inputs: Iterable[Any],
        on_inputs: Callable[[list[Any]], None] | None = None,
    ) -> list[Any]:
        """Run one op in the state that its configurations are in.

        Args:
            op: an esp-ppq ``Operation``.
            inputs: a value per input, parameters among them; None for one that is not given.
            on_inputs: told of the inputs after they were quantized.

        Raises:
            RuntimeError: the op fails; it is named.
        """
        values = list(inputs)
        try:
            if self.layout is not None:
                values = self.layout.arrange(op, values)
            quantable = isinstance(op, QuantableOperation)
            if quantable:
                values = self._all_quantized(op, values, op.config.input_quantization_config)
            if on_inputs is not None:
                on_inputs(values)
            # To read a bound that lies on a GPU is to wait for it.
            bounds = bounds_of(op, values) if quantable and self.device == "cpu" else NO_BOUNDS
            if bounds is NO_BOUNDS:
                forward = OPERATION_FORWARD_TABLE[op.platform][op.type]
                outputs = forward(op, values, self._context)
                outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
            else:
                outputs = values[:1]
            if quantable:
                configs = op.config.output_quantization_config
                outputs = self._all_quantized(op, outputs, configs, bounds)
        except Exception as error:
            raise OpError(op) from error
        return outputs

    def _all_quantized(
        self, op: Any, values: list[Any], configs: list[Any], bounds: Bounds = NO_BOUNDS
    ) -> list[Any]:
        double = op.platform in IN_DOUBLE
        before, after = (torch.float32, torch.float64) if double else (torch.float64, torch.float32)
        found = []
        for value, config in zip(values, configs, strict=False):
            result = self._quantize(value, config, bounds)
            if value is not None and value.dtype == before:
                result = result.type(after)
            found.append(result)
        return found


def inputs_of(op: Any, values: Mapping[str, Tensor]) -> list[Any]:
    """Return a value per input of an op: the given one, or the constant in the graph."""
    return [values.get(variable.name, variable.value) for variable in op.inputs]


def store(op: Any, outputs: Iterable[Any], values: dict[str, Tensor]) -> None:
    """Keep what an op put out, by variable."""
    for variable, value in zip(op.outputs, outputs, strict=False):
        values[variable.name] = value


def count_readers(ops: Iterable[Any]) -> Counter[str]:
    """Count how often each variable is read."""
    return Counter(variable.name for op in ops for variable in op.inputs)


def release(
    op: Any, values: dict[str, Tensor], readers: Counter[str], kept: Collection[str] = ()
) -> None:
    """Drop what nobody reads after an op has run.

    Args:
        op: has run.
        values: by variable.
        readers: ops that have still to read a variable, this one among them; it is counted off.
        kept: variables that stay.
    """
    for variable in op.inputs:
        readers[variable.name] -= 1
        if readers[variable.name] == 0 and variable.name not in kept:
            values.pop(variable.name, None)


def feed(graph: Any, batch: Any) -> dict[str, Tensor]:
    """Return the tensor for each input of a graph, as TorchExecutor assigns them."""
    return Batch.of(batch).by_name(list(graph.inputs))


def channels_last(value: Any) -> Any:
    """Return an image tensor with its channels stored last: convolutions run faster so on a CPU."""
    if isinstance(value, Tensor) and value.dim() == 4 and not value.is_cuda:
        return value.contiguous(memory_format=torch.channels_last)
    return value
