"""Collects the data of esp-ppq's training passes without running the graph anew for each block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from esp_ppq.IR import QuantableOperation
from esp_ppq.IR.quantize import QuantableGraph
from torch import Tensor

from espdl_quantize.ppq._spill import is_spilling, spill
from espdl_quantize.ppq.fast._runner import OpRunner, channels_last, feed, inputs_of, store


class Activations:
    """What flows through a graph, one value per batch and variable.

    esp-ppq's training passes run the graph from its input anew for each block. Here every op runs
    once: values stay until the last op that reads them has run and the last request for them has
    been answered. What is asked for after that, or after :meth:`forget`, is computed again.

    Args:
        graph: an esp-ppq ``BaseGraph``, in the same state whenever values are asked for.
        runner: runs its ops.
        batches: the inputs.
        requests: names of the variables that will be asked for, once per request.
    """

    def __init__(
        self, graph: Any, runner: OpRunner, batches: Sequence[Any], requests: Iterable[str]
    ) -> None:
        self._graph, self._runner = graph, runner
        self._order = list(graph.topological_sort())
        self._place = {op.name: place for place, op in enumerate(self._order)}
        self._requests = Counter(requests)
        self._done: set[str] = set()
        self._values = [
            {name: spill(channels_last(value)) for name, value in feed(graph, batch).items()}
            for batch in batches
        ]

    def get(self, names: Sequence[str]) -> list[dict[str, Tensor]]:
        """Return the values of some variables for each batch.

        Raises:
            RuntimeError: an op fails; it is named.
        """
        missing = self._missing(names)
        readers = self._readers_left(missing)
        found = []
        with torch.no_grad():
            for values in self._values:
                left = dict(readers)
                if is_spilling():
                    values.update({n: one.to(self._runner.device) for n, one in values.items()})
                for op in missing:
                    outputs = self._runner.run(op, inputs_of(op, values))
                    store(op, [channels_last(output) for output in outputs], values)
                    self._release(op, values, left, names)
                if is_spilling():
                    values.update({n: spill(value) for n, value in values.items()})
                found.append({name: values[name] for name in names})
        self._done |= {op.name for op in missing}
        for name in names:
            self._requests[name] -= 1
            if self._is_spent(name):
                for values in self._values:
                    values.pop(name, None)
        return found

    def forget(self, ops: Iterable[Any]) -> None:
        """Drop what ops put out, and everything that depends on it: they have changed."""
        changed = {variable.name for op in ops for variable in op.outputs}
        for op in self._order:
            if any(variable.name in changed for variable in (*op.inputs, *op.outputs)):
                if any(variable.name in changed for variable in op.inputs):
                    changed |= {variable.name for variable in op.outputs}
                if any(variable.name in changed for variable in op.outputs):
                    self._done.discard(op.name)
        for values in self._values:
            for name in changed:
                values.pop(name, None)

    def _missing(self, names: Sequence[str]) -> list[Any]:
        """Return the ops that must run to know some variables, in order."""
        known = self._values[0] if self._values else {}
        found: dict[str, Any] = {}
        open_names = [name for name in names if name not in known]
        while open_names:
            op = self._graph.variables[open_names.pop()].source_op
            if op is None or op.name in found:
                continue
            found[op.name] = op
            open_names += [
                variable.name
                for variable in op.inputs
                if not variable.is_parameter and variable.name not in known
            ]
        return sorted(found.values(), key=lambda op: self._place[op.name])

    def _readers_left(self, running: list[Any]) -> dict[str, int]:
        """Count the ops that still have to read each variable that the running ops touch."""
        done = self._done - {op.name for op in running}
        touched = {v.name: v for op in running for v in (*op.inputs, *op.outputs)}
        return {
            name: sum(op.name not in done for op in variable.dest_ops)
            for name, variable in touched.items()
        }

    def _release(
        self, op: Any, values: dict[str, Tensor], left: dict[str, int], asked: Sequence[str]
    ) -> None:
        for name in {variable.name for variable in op.inputs}:
            left[name] -= 1
            is_wanted = name in asked or self._requests[name] > 0 or name in self._graph.inputs
            if left[name] <= 0 and not is_wanted:
                values.pop(name, None)

    def _is_spent(self, name: str) -> bool:
        if self._requests[name] > 0 or name in self._graph.inputs:
            return False
        return all(op.name in self._done for op in self._graph.variables[name].dest_ops)


Data = list[dict[str, Tensor]]
"""One value per variable name, for each batch."""


class Collector:
    """Stands in for ``collect`` of one esp-ppq ``TrainingBasedPass``.

    Args:
        optimization: the pass.
    """

    def __init__(self, optimization: Any) -> None:
        self._split = optimization.split_graph_into_blocks
        self._blocks: list[Any] = []
        self._caches: tuple[Activations, Activations] | None = None
        self._last: Any = None

    def name_of(self, block: Any) -> str:
        """Name a block by its place, and its first and last op."""
        ends = f"{block.sp.name} to {block.ep.name}"
        places = [place for place, one in enumerate(self._blocks, 1) if one is block]
        return f"block {places[0]} of {len(self._blocks)}: {ends}" if places else ends

    def forget(self) -> None:
        """Free what was kept for the blocks to come."""
        self._caches, self._last = None, None

    def split_graph_into_blocks(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Split as esp-ppq does, and take note of what will be asked for."""
        self._blocks = list(self._split(*args, **kwargs))
        self._caches, self._last = None, None
        return list(self._blocks)

    def collect(
        self,
        graph: Any,
        block: Any,
        executor: Any,
        dataloader: Iterable[Any],
        collate_fn: Any = None,
        collecting_device: str = "cpu",
        steps: int | None = None,
        expire_device: str = "cpu",
    ) -> tuple[Data, Data]:
        """Return the quantized inputs and the float outputs of a block, for each batch.

        The arguments are those of ``TrainingBasedPass.collect``. Values stay on the executor's
        device.
        """
        if self._caches is None:
            batches = [batch if collate_fn is None else collate_fn(batch) for batch in dataloader]
            batches = batches if steps is None else batches[: steps + 1]
            runner = OpRunner(executor._device)
            self._caches = (
                Activations(graph, runner, batches, _all(self._blocks, _input_names)),
                Activations(graph, runner, batches, _all(self._blocks, _output_names)),
            )
        quantized, exact = self._caches
        if self._last is not None:
            # The block before has been trained since.
            quantized.forget(_changed_ops(graph, self._last))
        self._last = block
        helper = QuantableGraph(graph)
        helper.dequantize_graph(expire_device=executor._device)
        try:
            outputs = exact.get(_output_names(block))
        finally:
            helper.restore_quantize_state(expire_device=executor._device)
        inputs = quantized.get(_input_names(block))
        for name, value in (*inputs[0].items(), *outputs[0].items()):
            if value is None:
                raise TypeError(f"the block from {block.sp.name} has no value for {name}")
        return inputs, outputs


def _all(blocks: list[Any], names: Any) -> list[str]:
    return [name for block in blocks for name in names(block)]


def _input_names(block: Any) -> list[str]:
    return [variable.name for variable in block.sp.inputs if not variable.is_parameter]


def _output_names(block: Any) -> list[str]:
    return [variable.name for variable in block.ep.outputs]


def _changed_ops(graph: Any, block: Any) -> list[Any]:
    """Return the ops whose outputs may differ after a block was trained.

    Besides those of the block these are ops elsewhere that share one of its scales: the inputs of
    an aligned Concat, for one.
    """
    masters = {
        config
        for op in block.rps
        if isinstance(op, QuantableOperation)
        for config, _ in op.config_with_variable
        if config.dominated_by == config
    }
    elsewhere = [
        op
        for op in graph.operations.values()
        if isinstance(op, QuantableOperation)
        and any(config.dominated_by in masters for config, _ in op.config_with_variable)
    ]
    return [*block.rps, *elsewhere]
