"""Values of variables for every batch, computed by walking the graph forward once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
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
                    store(op, [channels_last(one) for one in outputs], values)
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
