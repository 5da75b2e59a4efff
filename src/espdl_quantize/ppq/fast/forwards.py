"""Whole graphs as esp-ppq's TorchExecutor runs them, with fewer passes over memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from esp_ppq.core import QuantizationStates
from torch import Tensor

from espdl_quantize.ppq._fallback import FORWARD, Fallback
from espdl_quantize.ppq.fast._fake_quant import NO_BOUNDS, Bounds, fake_quantize
from espdl_quantize.ppq.fast._layout import Layout
from espdl_quantize.ppq.fast._runner import (
    OpRunner,
    Quantize,
    count_readers,
    inputs_of,
    release,
    store,
)

_LARGE = 1 << 15
"""Elements of the inputs from which on the layout of images is worth a thought."""


def forward(original: Callable[..., Any], fallback: Fallback) -> Callable[..., Any]:
    """Return a forward for TorchExecutor that runs on a CPU by :func:`run_ops`, without hooks.

    It stands behind all of the executor's public methods.
    """

    def fast(
        self: Any,
        inputs: Any,
        executing_order: list[Any],
        output_names: list[str] | None = None,
        hooks: Any = None,
    ) -> list[Any]:
        given = _given(self, inputs)
        if given is None:
            return original(  # type: ignore[no-any-return]
                self, inputs, executing_order, output_names, hooks
            )
        names = list(self._graph.outputs) if output_names is None else output_names
        runner = OpRunner(self._device, _quantizer(self), _layout(self, given))
        return run_ops(self._graph, executing_order, given, names, runner)

    def plainly(
        self: Any,
        inputs: Any,
        executing_order: list[Any],
        output_names: list[str] | None = None,
        hooks: Any = None,
    ) -> Any:
        try:
            return original(self, inputs, executing_order, output_names, hooks)
        except Exception:
            # esp-ppq does so only where all goes well.
            for variable in self._graph.variables.values():
                if not variable.is_parameter:
                    variable.value = None
            raise

    guarded = fallback.guarded(FORWARD, fast, plainly)

    def run_graph(
        self: Any,
        inputs: Any,
        executing_order: list[Any],
        output_names: list[str] | None = None,
        hooks: Any = None,
    ) -> list[Any]:
        # Hooks see what runs, and must not see it twice; it is esp-ppq's own loop then.
        run = original if hooks else guarded
        return run(self, inputs, executing_order, output_names, hooks)  # type: ignore[no-any-return]

    return run_graph


def _given(executor: Any, inputs: Any) -> dict[str, Tensor] | None:
    """Return the inputs by name, or None where they are to be left to esp-ppq."""
    given = inputs if isinstance(inputs, dict) else executor.prepare_input(inputs)
    if (
        executor._device != "cpu"
        or not given
        or not given.keys() <= executor._graph.variables.keys()
    ):
        return None
    return dict(given) if all(isinstance(one, Tensor) for one in given.values()) else None


def _quantizer(executor: Any) -> Quantize:
    """Return what quantizes a tensor: what was registered for its configuration, if anything."""
    delegates = executor._delegates
    if not delegates:
        return fake_quantize

    def quantize(tensor: Any, config: Any, bounds: Bounds = NO_BOUNDS) -> Any:
        is_active = tensor is not None and QuantizationStates.is_activated(config.state)
        if is_active and config in delegates:
            return delegates[config](bounds.of(tensor), config)
        return fake_quantize(tensor, config, bounds)

    return quantize


def _layout(executor: Any, given: dict[str, Tensor]) -> Layout | None:
    """Decide on the layout of images, where a whole graph runs and it can make a difference."""
    if executor._delegates or torch.is_grad_enabled():
        return None
    if not given.keys() <= executor._graph.inputs.keys():
        return None
    is_large = sum(one.numel() for one in given.values()) >= _LARGE
    # Where images come in another order, esp-ppq goes on with that.
    is_plain = all(one.is_contiguous() for one in given.values())
    return Layout.of(executor._graph) if is_large and is_plain else None


def run_ops(
    graph: Any,
    order: Sequence[Any],
    inputs: dict[str, Tensor],
    names: Sequence[str],
    runner: OpRunner,
) -> list[Any]:
    """Return some variables' values, to the last bit as TorchExecutor.forward computes them.

    Args:
        graph: an esp-ppq ``BaseGraph``.
        order: the ops, in the order in which they run; as many as are needed do.
        inputs: values to begin with, by name.
        names: of the variables that are asked for.
        runner: runs an op.

    Raises:
        KeyError: the graph has no variable of such a name.
        RuntimeError: an op fails; it is named.
    """
    for name in names:
        if name not in graph.variables:
            raise KeyError(f"the graph has no variable {name!r}")
    sources = [graph.variables[name].source_op for name in names]
    running = order[: max((order.index(op) + 1 for op in sources if op is not None), default=0)]
    values, readers = dict(inputs), count_readers(running)
    for op in running:
        store(op, runner.run(op, inputs_of(op, values)), values)
        release(op, values, readers, names)
    images = runner.layout.images if runner.layout is not None else ()
    # A caller may look at a tensor as at a row of numbers.
    return [values[name].contiguous() if name in images else values.get(name) for name in names]
