"""Which ops of a graph the analyses look at, and what lies behind each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from esp_ppq.core import PASSIVE_OPERATIONS
from esp_ppq.IR import QuantableOperation


@dataclass(frozen=True)
class Plan:
    """The ops of a graph, in the order that they run in.

    Attributes:
        graph: the quantized graph.
        order: all ops.
        quantable: those with a configuration, in the graph's order.
        computing: those that the layerwise analysis covers.
        watched: those that statistics are taken of.
        behind: by computing op, the ops that depend on it and that an output depends on.
        joined: variables that come into what lies behind some op from elsewhere, and the outputs.
    """

    graph: Any
    order: tuple[Any, ...]
    quantable: tuple[Any, ...]
    computing: tuple[Any, ...]
    watched: tuple[Any, ...]
    behind: dict[str, tuple[Any, ...]]
    joined: frozenset[str]

    @classmethod
    def of(cls, graph: Any) -> Plan:
        """Look at a graph."""
        order = tuple(graph.topological_sort())
        quantable = tuple(
            op for op in graph.operations.values() if isinstance(op, QuantableOperation)
        )
        computing = tuple(op for op in quantable if op.is_computing_op)
        watched = tuple(op for op in quantable if op.type not in PASSIVE_OPERATIONS)
        useful = leading_to(order, graph.outputs)
        behind = {op.name: _behind(op, order, useful) for op in computing}
        joined = set(graph.outputs)
        for op in computing:
            changed = {variable.name for variable in op.outputs}
            for later in behind[op.name]:
                joined |= {variable.name for variable in later.inputs} - changed
                changed |= {variable.name for variable in later.outputs}
        return cls(graph, order, quantable, computing, watched, behind, frozenset(joined))


def leading_to(order: tuple[Any, ...], outputs: Iterable[str]) -> set[str]:
    """Return the names of the ops that some variables depend on."""
    needed, useful = set(outputs), set()
    for op in reversed(order):
        if any(variable.name in needed for variable in op.outputs):
            useful.add(op.name)
            needed |= {variable.name for variable in op.inputs}
    return useful


def _behind(start: Any, order: tuple[Any, ...], useful: set[str]) -> tuple[Any, ...]:
    changed, found = {variable.name for variable in start.outputs}, []
    for op in order:
        if op.name in useful and any(variable.name in changed for variable in op.inputs):
            found.append(op)
            changed |= {variable.name for variable in op.outputs}
    return tuple(found)
