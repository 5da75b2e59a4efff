"""Whole graphs as esp-ppq's TorchExecutor runs them, with fewer passes over memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from esp_ppq.executor import TorchExecutor
from torch import Tensor

from espdl_quantize.quantize.fast._layout import NOWHERE, Layout
from espdl_quantize.quantize.fast._runner import OpRunner, count_readers, inputs_of, release, store

_FORWARD = "_TorchExecutor__forward"
"""What TorchExecutor's public methods call."""

_LARGE = 1 << 15
"""Elements of the inputs from which on the layout of images is worth a thought."""


@contextlib.contextmanager
def fast_forward() -> Iterator[None]:
    """Within the block, forwards on a CPU without hooks and gradients run by :func:`run_graph`."""
    original = getattr(TorchExecutor, _FORWARD)

    def forward(
        self: Any,
        inputs: Any,
        executing_order: list[Any],
        output_names: list[str] | None = None,
        hooks: Any = None,
    ) -> list[Any]:
        given = None
        if not hooks and not self._delegates and not torch.is_grad_enabled():
            given = _given(self, inputs)
        if given is None:
            return original(  # type: ignore[no-any-return]
                self, inputs, executing_order, output_names, hooks
            )
        graph = self._graph
        names = list(graph.outputs) if output_names is None else output_names
        return run_graph(graph, executing_order, given, names, self._device)

    setattr(TorchExecutor, _FORWARD, forward)
    try:
        yield
    finally:
        setattr(TorchExecutor, _FORWARD, original)


def _given(executor: Any, inputs: Any) -> dict[str, Tensor] | None:
    """Return the inputs by name, or None where they are to be left to esp-ppq."""
    given = inputs if isinstance(inputs, dict) else executor.prepare_input(inputs)
    if executor._device != "cpu" or not given or not given.keys() <= executor._graph.inputs.keys():
        return None
    plain = all(isinstance(one, Tensor) and one.is_contiguous() for one in given.values())
    return dict(given) if plain else None


def run_graph(
    graph: Any, order: Sequence[Any], inputs: dict[str, Tensor], names: Sequence[str], device: str
) -> list[Any]:
    """Return some variables' values, to the last bit as TorchExecutor.forward computes them.

    Args:
        graph: an esp-ppq ``BaseGraph``.
        order: its ops, in the order in which they run.
        inputs: contiguous tensors, by name.
        names: of the variables that are asked for.
        device: where the ops run.

    Raises:
        KeyError: the graph has no variable of such a name.
        RuntimeError: an op fails; it is named.
    """
    for name in names:
        if name not in graph.variables:
            raise KeyError(f"the graph has no variable {name!r}")
    sources = [graph.variables[name].source_op for name in names]
    running = order[: max((order.index(op) + 1 for op in sources if op is not None), default=0)]
    is_large = sum(one.numel() for one in inputs.values()) >= _LARGE
    layout = Layout.of(graph) if is_large else NOWHERE
    runner, values = OpRunner(device, layout=layout), dict(inputs)
    readers = count_readers(running)
    for op in running:
        store(op, runner.run(op, inputs_of(op, values)), values)
        release(op, values, readers, names)
    # A caller may look at a tensor as at a row of numbers.
    return [
        values[name].contiguous() if name in layout.images else values.get(name) for name in names
    ]
