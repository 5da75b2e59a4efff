"""Rewrites that work out what constants decide, or move numbers into those of a neighbouring op.

Each function yields the name of every node that it changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import numpy_helper

from espdl_quantize.ppq.normalise.graph import (
    Graph,
    NodeProto,
    attribute_of,
    drop_attribute,
    set_attribute,
)

_ROOT_OF_TWO = float(np.sqrt(2.0))


def bias_add(graph: Graph) -> Iterator[str]:
    """Fold an Add of one number per channel into the bias of the convolution before it.

    Where the convolution has a bias already, esp-ppq takes the axis of the channels off the
    constant and adds it along the width.
    """
    for node in graph.of_type("Conv", "ConvTranspose"):
        weight, bias = graph.input_constant(node, 1), graph.input_constant(node, 2)
        add = graph.sole_reader(node.output[0])
        if weight is None or bias is None or add is None or add.op_type != "Add":
            continue
        place = 1 if add.input[0] == node.output[0] else 0
        constant = graph.input_constant(add, place)
        channels = bias.size
        if constant is None or constant.size != channels:
            continue
        # At most the rank of the output, with the channels on its second axis.
        if constant.ndim > weight.ndim or constant.shape[1 - weight.ndim :][:1] != (channels,):
            continue
        folded = (bias.reshape(-1) + constant.reshape(-1)).astype(bias.dtype)
        graph.set_input(node, 2, graph.add_constant("bias", folded))
        name = add.name
        node.output[0] = add.output[0]
        graph.replace(add, [])
        yield name


def gemm_factors(graph: Graph) -> Iterator[str]:
    """Fold alpha and beta of a Gemm into its constants, and spread a bias over the columns.

    esp-ppq's exporter refuses factors, and its quantizer a bias that has not one number per column.
    """
    for node in graph.of_type("Gemm"):
        alpha, beta = attribute_of(node, "alpha", 1.0), attribute_of(node, "beta", 1.0)
        weight, bias = graph.input_constant(node, 1), graph.input_constant(node, 2)
        changed = False
        if alpha != 1.0 and weight is not None:
            scaled = (weight * np.float32(alpha)).astype(weight.dtype)
            graph.set_input(node, 1, graph.add_constant("weight", scaled))
            drop_attribute(node, "alpha")
            changed = True
        if beta != 1.0 and (bias is not None or not graph.has_input(node, 2)):
            if bias is not None:
                bias = (bias * np.float32(beta)).astype(bias.dtype)
                graph.set_input(node, 2, graph.add_constant("bias", bias))
            drop_attribute(node, "beta")
            changed = True
        if weight is not None and bias is not None and weight.ndim == 2:
            columns = weight.shape[0 if attribute_of(node, "transB", 0) else 1]
            if bias.shape != (columns,) and (bias.size == 1 or bias.shape == (1, columns)):
                spread = np.broadcast_to(bias.reshape(-1), (columns,)).astype(bias.dtype)
                graph.set_input(node, 2, graph.add_constant("bias", spread))
                changed = True
        if changed:
            yield node.name


def lone_norms(graph: Graph) -> Iterator[str]:
    """Write a BatchNormalization that follows no convolution as a Mul and an Add.

    esp-ppq makes a two-dimensional convolution of it, whatever the rank of its input.
    """
    for node in graph.of_type("BatchNormalization"):
        shape = graph.shape(node.input[0])
        before = graph.producer(node.input[0])
        constants = [graph.input_constant(node, place) for place in range(1, 5)]
        if attribute_of(node, "training_mode", 0) or shape is None or len(shape) == 4:
            continue
        is_fused = (
            before is not None
            and before.op_type in ("Conv", "Gemm", "ConvTranspose")
            and graph.sole_reader(node.input[0]) is node
        )
        if is_fused or any(each is None for each in constants):
            continue
        scale, shift, mean, variance = (np.asarray(each, np.float64) for each in constants)
        factor = scale / np.sqrt(variance + attribute_of(node, "epsilon", 1e-5))
        along = (-1, *[1] * (len(shape) - 2))
        inner = graph.fresh(f"{node.output[0]}_scaled")
        numbers = [
            graph.add_constant(name, each.reshape(along).astype(np.float32))
            for name, each in (("scale", factor), ("shift", shift - mean * factor))
        ]
        name = node.name
        graph.replace(
            node,
            [
                graph.node("Mul", [node.input[0], numbers[0]], [inner], node),
                graph.node("Add", [inner, numbers[1]], [node.output[0]], node),
            ],
        )
        yield name


def padded_average(graph: Graph) -> Iterator[str]:
    """Let an AveragePool count its padding, as esp-ppq and the chip do, where that changes nothing.

    A window with padding in it would need a factor per place, and the integers of such a product
    are not those of the simulation.
    """
    for node in graph.of_type("AveragePool"):
        shape = graph.shape(node.input[0])
        padded = any(attribute_of(node, "pads", [0])) or attribute_of(node, "ceil_mode", 0)
        if attribute_of(node, "count_include_pad", 0) or not padded or shape is None:
            continue
        share = _share_of_window(node, shape)
        if share is None or not np.allclose(share, 1.0):
            continue
        set_attribute(node, "count_include_pad", 1)
        yield node.name


def _share_of_window(node: NodeProto, shape: tuple[int, ...]) -> Any:
    """Return what esp-ppq's own pooling makes of ones: the share of each window that is input."""
    import torch
    from torch.nn import functional

    pads = attribute_of(node, "pads", [0] * 2 * (len(shape) - 2))
    count = len(shape) - 2
    if any(each != 1 for each in attribute_of(node, "dilations", [1])) or count not in (1, 2, 3):
        return None
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[count - 1]
    ones = torch.ones([1, 1, *shape[2:]], dtype=torch.float64)
    sides = zip(pads[:count], pads[count:], strict=True)
    around = [each for side in reversed(list(sides)) for each in side]
    try:
        share = pool(
            functional.pad(ones, around),
            attribute_of(node, "kernel_shape"),
            attribute_of(node, "strides", [1] * count),
            ceil_mode=bool(attribute_of(node, "ceil_mode", 0)),
        ).numpy()
    except RuntimeError:
        return None
    return share if (share > 0).all() else None


def gelu(graph: Graph) -> Iterator[str]:
    """Write x * (1 + erf(x / sqrt(2))) / 2 as one Gelu: no chip has an Erf, all have the table."""
    for erf in graph.of_type("Erf"):
        match = _gelu_around(graph, erf)
        if match is None:
            continue
        source, target, nodes = match
        last = nodes[-1]
        # onnxruntime knows it at any opset in this domain; esp-ppq reads the type alone.
        op = graph.node("Gelu", [source], [target], erf, domain=MICROSOFT)
        for node in nodes:
            graph.replace(node, [op] if node is last else [])
        yield erf.name


MICROSOFT = "com.microsoft"


def _gelu_around(graph: Graph, erf: Any) -> tuple[str, str, list[NodeProto]] | None:
    before = graph.producer(erf.input[0])
    if before is None or before.op_type not in ("Div", "Mul"):
        return None
    if not _is_read_alone(graph, before.output[0]):
        return None
    scaled = _with_number(graph, before)
    is_scaled = scaled is not None and (
        (before.op_type == "Div" and before.input[0] == scaled[0] and _is(scaled[1], _ROOT_OF_TWO))
        or (before.op_type == "Mul" and _is(scaled[1], 1 / _ROOT_OF_TWO))
    )
    plus = graph.sole_reader(erf.output[0])
    if not is_scaled or scaled is None or plus is None or plus.op_type != "Add":
        return None
    added = _with_number(graph, plus)
    times = graph.sole_reader(plus.output[0])
    if added is None or not _is(added[1], 1.0) or times is None or times.op_type != "Mul":
        return None
    x = scaled[0]
    other = times.input[1] if times.input[0] == plus.output[0] else times.input[0]
    if other == x:
        last = graph.sole_reader(times.output[0])
        if last is None or not _halves(graph, last, times.output[0]):
            return None
        return x, last.output[0], [before, erf, plus, times, last]
    half = graph.producer(other)
    if half is None or not _halves(graph, half, x) or not _is_read_alone(graph, other):
        return None
    return x, times.output[0], [before, erf, plus, half, times]


def _is_read_alone(graph: Graph, name: str) -> bool:
    return graph.sole_reader(name) is not None


def _halves(graph: Graph, node: NodeProto, source: str) -> bool:
    """Tell whether a node halves a tensor."""
    parts = _with_number(graph, node)
    if parts is None or parts[0] != source:
        return False
    if node.op_type == "Mul":
        return _is(parts[1], 0.5)
    return node.op_type == "Div" and node.input[0] == source and _is(parts[1], 2.0)


def _with_number(graph: Graph, node: NodeProto | None) -> tuple[str, float] | None:
    """Return the tensor and the one number that a node of two inputs joins."""
    if node is None or len(node.input) != 2:
        return None
    for place in (0, 1):
        constant = graph.input_constant(node, place)
        if constant is not None and constant.size == 1 and constant.ndim <= 1:
            return node.input[1 - place], float(constant.reshape(()))
    return None


def _is(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= 1e-3 * abs(wanted)


def constant_branches(graph: Graph) -> Iterator[str]:
    """Put the branch of an If whose condition is a constant in its place."""
    for node in graph.of_type("If"):
        condition = graph.input_constant(node, 0)
        if condition is None:
            continue
        branch = attribute_of(node, "then_branch" if condition.reshape(-1)[0] else "else_branch")
        if len(branch.output) != len(node.output):
            continue
        own = {each.name for each in branch.initializer}
        own |= {name for inner in branch.node for name in inner.output if name}
        targets = dict(zip((each.name for each in branch.output), node.output, strict=True))
        if len(targets) != len(node.output) or any(name not in own for name in targets):
            continue
        renamed = dict(targets)
        for each in branch.initializer:
            if each.name in targets:
                break
            renamed[each.name] = graph.add_constant(each.name, numpy_helper.to_array(each))
        else:
            for name in own - set(renamed):
                renamed[name] = graph.fresh(name)
            made = []
            for inner in branch.node:
                copy = type(inner)()
                copy.CopyFrom(inner)
                copy.name = graph.fresh(f"{node.name}_{inner.name or inner.op_type}")
                _rename(copy, renamed)
                made.append(copy)
            yield node.name
            graph.replace(node, made)


def _rename(node: Any, names: dict[str, str]) -> None:
    for tensors in (node.input, node.output):
        for place, name in enumerate(tensors):
            tensors[place] = names.get(name, name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _rename(inner, names)
            for output in graph.output:
                output.name = names.get(output.name, output.name)
