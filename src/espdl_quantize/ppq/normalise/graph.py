"""An ONNX graph that can be edited: its nodes, constants, shapes, and who reads what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

NodeProto = Any
Shape = tuple[int, ...]


class Graph:
    """The graph of an ONNX model.

    Edits hold at once for nodes and constants; shapes are those of the graph as it was read, with
    a batch of one where the file leaves the batch open. Call :meth:`finish` to write it back.

    Args:
        model: an ONNX ``ModelProto``; it is changed by :meth:`finish`.

    Attributes:
        model: the model.
        nodes: its nodes, in their order.
        outputs: the names of its outputs.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[NodeProto] = []
        for node in model.graph.node:
            own = onnx.NodeProto()
            own.CopyFrom(node)
            self.nodes.append(own)
        self.outputs = {output.name for output in model.graph.output}
        self._constants = {each.name: each for each in model.graph.initializer}
        self._values: dict[str, np.ndarray[Any, Any]] = {}
        self._new: list[Any] = []
        self._producers: dict[str, NodeProto] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        self._shapes, self._types = _inferred(model)
        self._names = set(self._shapes) | set(self._constants)
        for node in self.nodes:
            self._names.update((node.name, *node.input, *node.output))

    @property
    def opset(self) -> int:
        """The version of ONNX's own ops."""
        return opset_of(self.model)

    def of_type(self, *types: str) -> Iterator[NodeProto]:
        """Yield the nodes of some types; those of other domains that bear the name are left out."""
        for node in list(self.nodes):
            if node.op_type in types and node.domain in ("", "ai.onnx"):
                yield node

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """Return the value of a constant; None where the tensor is none."""
        if name in self._values:
            return self._values[name]
        if name in self._constants:
            value = np.asarray(numpy_helper.to_array(self._constants[name]))
        else:
            node = self.producer(name) if name else None
            if node is None or node.op_type != "Constant" or not node.attribute:
                return None
            read = constant_of(node)
            if read is None:
                return None
            value = read
        self._values[name] = value
        return value

    def input_constant(self, node: NodeProto, place: int) -> np.ndarray[Any, Any] | None:
        """Return the constant that is an input of a node; None where there is none."""
        return self.constant(node.input[place]) if self.has_input(node, place) else None

    @staticmethod
    def has_input(node: NodeProto, place: int) -> bool:
        """Tell whether a node has an input; an empty name stands for none."""
        return len(node.input) > place and bool(node.input[place])

    def shape(self, name: str) -> Shape | None:
        """Return a tensor's shape at batch 1; None where it is not known whole."""
        if name in self._constants or name in self._values:
            value = self.constant(name)
            return None if value is None else tuple(value.shape)
        return self._shapes.get(name)

    def element_type(self, name: str) -> int | None:
        """Return a tensor's ``TensorProto`` data type; None where it is not known."""
        if name in self._constants:
            return int(self._constants[name].data_type)
        return self._types.get(name)

    def producer(self, name: str) -> NodeProto | None:
        """Return the node that writes a tensor; None for an input or a constant."""
        if not self._producers:
            self._producers = {each: node for node in self.nodes for each in node.output if each}
        return self._producers.get(name)

    def readers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read a tensor, as often as they do."""
        if not self._readers:
            for node in self.nodes:
                for each in names_read_by(node):
                    self._readers.setdefault(each, []).append(node)
        return self._readers.get(name, [])

    def sole_reader(self, name: str) -> NodeProto | None:
        """Return the one node that reads a tensor which is no output of the model."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def fresh(self, name: str) -> str:
        """Return a name that begins with ``name`` and that nothing bears yet."""
        candidate, number = name, 0
        while candidate in self._names or not candidate:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    def add_constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a constant under a new name, which is returned."""
        name = self.fresh(name)
        self._values[name] = value
        self._new.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def set_input(self, node: NodeProto, place: int, name: str) -> None:
        """Set an input of a node, which may not have had it."""
        while len(node.input) <= place:
            node.input.append("")
        node.input[place] = name
        self.forget()

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        like: NodeProto,
        **attrs: Any,
    ) -> NodeProto:
        """Return a new node, named after another one; it is not yet in the graph."""
        name = self.fresh(f"{like.name or like.op_type}_{op_type}")
        return helper.make_node(op_type, list(inputs), list(outputs), name=name, **attrs)

    def replace(self, node: NodeProto, others: Iterable[NodeProto]) -> None:
        """Put other nodes in the place of one; none of them removes it."""
        place = next(place for place, each in enumerate(self.nodes) if each is node)
        self.nodes[place : place + 1] = list(others)
        self.forget()

    def bypass(self, node: NodeProto) -> None:
        """Remove a node whose first output equals its first input."""
        source, target = node.input[0], node.output[0]
        if target in self.outputs:
            # The name of an output stays.
            self.replace(node, [self.node("Identity", [source], [target], node)])
            return
        self.replace(node, [])
        self.read_instead(target, source)

    def read_instead(self, name: str, other: str) -> None:
        """Let all that read one tensor read another."""
        for reader in self.nodes:
            for place, each in enumerate(reader.input):
                if each == name:
                    reader.input[place] = other
        self.forget()

    def forget(self) -> None:
        """Look up anew who writes and who reads what: for edits by hand."""
        self._producers.clear()
        self._readers.clear()

    def finish(self) -> None:
        """Write the edits into the model, and drop constants that nobody reads any more."""
        proto = self.model.graph
        del proto.node[:]
        proto.node.extend(self.nodes)
        proto.initializer.extend(self._new)
        self._new = []
        read = {name for node in proto.node for name in names_read_by(node)} | self.outputs
        unread = [place for place, each in enumerate(proto.initializer) if each.name not in read]
        for place in reversed(unread):
            del proto.initializer[place]


def names_read_by(node: NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, those of the graphs in its attributes included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from names_read_by(inner)
            yield from (output.name for output in graph.output)


def attribute_of(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute of a node, strings as ``str``."""
    for attribute in node.attribute:
        if attribute.name == name:
            value = helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                return value.decode("utf-8", "replace")
            return list(value) if isinstance(value, (list, tuple)) else value
    return default


def has_attribute(node: NodeProto, name: str) -> bool:
    """Tell whether a node spells an attribute out."""
    return any(attribute.name == name for attribute in node.attribute)


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Set an attribute of a node."""
    drop_attribute(node, name)
    node.attribute.append(helper.make_attribute(name, value))


def drop_attribute(node: NodeProto, *names: str) -> None:
    """Remove attributes from a node."""
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    if len(kept) != len(node.attribute):
        del node.attribute[:]
        node.attribute.extend(kept)


def constant_of(node: NodeProto) -> np.ndarray[Any, Any] | None:
    """Return the value of a ``Constant``, whichever attribute it is in; None for a sparse one."""
    types: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
    types |= {"value_int": np.int64, "value_ints": np.int64}
    attribute = node.attribute[0]
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(attribute.t))
    if attribute.name in types:
        return np.array(helper.get_attribute_value(attribute), dtype=types[attribute.name])
    return None


def opset_of(model: Any) -> int:
    """Return the version of ONNX's own ops that a model is written in."""
    for each in model.opset_import:
        if each.domain in ("", "ai.onnx"):
            return int(each.version)
    return 1


def graph_inputs(model: Any) -> list[Any]:
    """Return the inputs of a model that are no constants."""
    constants = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in constants]


def dims_of(value: Any) -> list[int | str | None] | None:
    """Return the dimensions of a ``ValueInfoProto``: sizes, names or None; None without a rank."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return [
        # Some exporters write a negative size for one that is open.
        int(dim.dim_value)
        if dim.HasField("dim_value") and dim.dim_value >= 0
        else (dim.dim_param or None)
        for dim in kind.shape.dim
    ]


def with_batch(model: Any, size: int) -> Any:
    """Return a copy of a model whose inputs' open dimensions have a size."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in graph_inputs(copy):
        kind = value.type.tensor_type
        for dim in kind.shape.dim if kind.HasField("shape") else ():
            if dim.dim_value <= 0:
                dim.Clear()
                dim.dim_value = size
    return copy


def _inferred(model: Any) -> tuple[dict[str, Shape], dict[str, int]]:
    """Infer the shapes that are known whole, and the element types, at batch 1."""
    copy = with_batch(model, 1)
    # What the file says of its tensors was said at another batch, or by an exporter that guessed.
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        copy = shape_inference.infer_shapes(copy, data_prop=True)
    except Exception:
        return {}, {}
    shapes: dict[str, Shape] = {}
    types: dict[str, int] = {}
    for value in (*copy.graph.input, *copy.graph.value_info, *copy.graph.output):
        types[value.name] = int(value.type.tensor_type.elem_type)
        dims = dims_of(value)
        if dims is not None and all(isinstance(dim, int) for dim in dims):
            shapes[value.name] = tuple(dim for dim in dims if isinstance(dim, int))
    return shapes, types
