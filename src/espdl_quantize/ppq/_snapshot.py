"""The state of a graph, or of some of its ops, kept aside so that it can be put back.

What is kept is kept by identity: the same objects, containers and tensors have their former content
afterwards. That also holds where a training has moved tensors into memory of its own, or a pass has
changed the structure of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from esp_ppq.IR import QuantableOperation
from torch import Tensor

from espdl_quantize.ppq._random import random_state, restore_random_state


class Snapshot:
    """The fields of some objects, and the content of the containers and tensors in them.

    Args:
        objects: whose fields are kept.
        contents: keep the numbers of tensors, too; else only which tensors there are.
    """

    def __init__(self, objects: Iterable[Any], *, contents: bool = True) -> None:
        self._fields: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._tensors: list[_KeptTensor] = []
        self._random = random_state()
        seen: set[int] = set()
        for one in objects:
            if id(one) in seen:
                continue
            seen.add(id(one))
            fields = vars(one)
            self._fields.append((fields, dict(fields)))
            for value in fields.values():
                for tensor in self._containing(value):
                    if contents and id(tensor) not in seen:
                        seen.add(id(tensor))
                        self._tensors.append(_KeptTensor(tensor))

    def restore(self) -> None:
        """Put everything back, the state of the random generators too."""
        for fields, former in self._fields:
            fields.clear()
            fields.update(former)
        for container, content in self._containers:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        for tensor in self._tensors:
            tensor.restore()
        restore_random_state(self._random)

    def _containing(self, value: Any) -> Iterator[Tensor]:
        """Keep a container's content; yield the tensors in a value."""
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, dict, set)):
            self._containers.append((value, value.copy()))
            held = value.values() if isinstance(value, dict) else value
            yield from (one for one in held if isinstance(one, Tensor))


class _KeptTensor:
    def __init__(self, tensor: Tensor) -> None:
        # One that is no leaf has no gradient to speak of.
        self._tensor, self._gradient = tensor, tensor.grad if tensor.is_leaf else None
        self._trains = tensor.requires_grad
        # The memory that it had: a training may give it another.
        self._memory, self._copy = tensor.data, tensor.detach().clone()

    def restore(self) -> None:
        self._memory.copy_(self._copy)
        self._tensor.data = self._memory
        if self._tensor.is_leaf:
            self._tensor.requires_grad_(self._trains)
            self._tensor.grad = self._gradient


def state_of_graph(graph: Any, *others: Any, contents: bool = True) -> Snapshot:
    """Keep a whole graph, its structure included.

    Args:
        graph: an esp-ppq ``BaseGraph``.
        others: objects whose fields are kept, too.
        contents: as for :class:`Snapshot`.
    """
    ops = list(graph.operations.values())
    return Snapshot([graph, *graph.variables.values(), *_parts(ops), *others], contents=contents)


def state_of_ops(ops: Iterable[Any], *others: Any) -> Snapshot:
    """Keep some ops with their variables and quantization, and other objects' fields."""
    return Snapshot([*_parts(ops), *others])


def _parts(ops: Iterable[Any]) -> Iterator[Any]:
    """Yield all that belongs to ops and can change."""
    for op in ops:
        yield op
        yield from (*op.inputs, *op.outputs)
        if isinstance(op, QuantableOperation):
            yield op.config
            for config, _ in op.config_with_variable:
                yield config
                # A block may train a scale that an op elsewhere owns.
                yield config.dominated_by
