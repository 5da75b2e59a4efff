"""Holds a file against the quantized graph that it was exported from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from espdl_quantize.chip._model import ChipModel, Node
from espdl_quantize.chip._rules import Fault
from espdl_quantize.ppq import configured_variables

_ADDED = frozenset(
    {
        "Concat",
        "DequantizeLinear",
        "QuantizeLinear",
        "RequantizeLinear",
        "Reshape",
        "Slice",
        "Transpose",
    }
)
"""What the exporter inserts (``espdl_graph_utils.py``)."""

Layouts = Mapping[str, tuple[int, ...]]
"""By variable, the axes of the graph's tensor in the order in which the chip keeps them."""


def differences(model: ChipModel, graph: Any, layouts: Layouts) -> list[Fault]:
    """Return where a file says something else than its graph.

    Args:
        model: the file.
        graph: the quantized ``BaseGraph``.
        layouts: what the exporter did to the axes.
    """
    nodes = {node.name: node for node in model.nodes}
    all_faults = []
    for op in graph.operations.values():
        faults = _op_differences(model, op, nodes.get(op.name), layouts)
        all_faults += [Fault(op.name, op.type, "graph", cause) for cause in faults]
    for node in model.nodes:
        if node.name not in graph.operations and node.op_type not in _ADDED:
            cause = "the quantized graph has no such op"
            all_faults.append(Fault(node.name, node.op_type, "graph", cause))
    for kind, ours, theirs in (
        ("inputs", model.inputs, graph.inputs),
        ("outputs", model.outputs, graph.outputs),
    ):
        if len(ours) != len(theirs):
            cause = f"it has {len(ours)} {kind}, the quantized graph {len(theirs)}"
            all_faults.append(Fault("", "", "graph", cause))
    return all_faults


def _op_differences(
    model: ChipModel, op: Any, node: Node | None, layouts: Layouts
) -> Iterator[str]:
    if node is None:
        if not _may_vanish(model, op):
            yield "the file does not have it"
        return
    if node.op_type != op.type:
        yield f"it is a {op.type}, the file has a {node.op_type}"
    for variable, exponents in configured_variables(op):
        tensor = model.tensor(variable.name)
        # What a fused activation or a merged transpose wrote or read is gone, or is another's.
        if tensor is None or variable.name not in (*node.inputs, *node.outputs):
            continue
        if tensor.data is None and variable.shape and tensor.shape is not None:
            axes = layouts.get(variable.name, tuple(range(len(variable.shape))))
            shape = tuple(int(variable.shape[axis]) for axis in axes)
            if tensor.shape != shape:
                yield f"{variable.name!r} has the shape {tensor.shape}, expected {shape}"
        if variable.is_parameter and variable.value is not None and tensor.data is not None:
            count = variable.value.numel()
            if math.prod(tensor.shape or ()) != count:
                yield f"{variable.name!r} has the shape {tensor.shape}, expected {count} numbers"
        written = variable.is_parameter or variable in op.outputs
        if exponents is not None and written and tensor.exponents != exponents:
            yield f"{variable.name!r} has the exponents {tensor.exponents}, expected {exponents}"


def _may_vanish(model: ChipModel, op: Any) -> bool:
    """Whether the exporter may take an op away.

    It fuses a Relu into what writes its input, and joins or drops transposes.
    """
    if op.type in ("Constant", "Transpose"):
        return True
    if op.type != "Relu":
        return False
    name = op.outputs[0].name
    return any(
        name in node.outputs and node.attributes.get("activation") == "Relu" for node in model.nodes
    )
