"""Rewrites that say in a node's attributes and inputs what the file leaves to the standard.

esp-ppq's executor has defaults of its own, and its exporter asks for attributes that the standard
lets a file leave out. Each function here yields the name of every node that it changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from espdl_quantize.ppq.normalise.graph import (
    Graph,
    NodeProto,
    attribute_of,
    drop_attribute,
    has_attribute,
    set_attribute,
)

POOLS = ("MaxPool", "AveragePool")
REDUCTIONS = tuple(
    f"Reduce{name}"
    for name in (
        "L1",
        "L2",
        "LogSum",
        "LogSumExp",
        "Max",
        "Mean",
        "Min",
        "Prod",
        "Sum",
        "SumSquare",
    )
)


def pool_strides(graph: Graph) -> Iterator[str]:
    """Spell out strides of 1: without any, esp-ppq steps by the kernel's size."""
    for node in graph.of_type(*POOLS):
        if not has_attribute(node, "strides"):
            set_attribute(node, "strides", [1] * len(attribute_of(node, "kernel_shape", [])))
            yield node.name


def explicit_pads(graph: Graph) -> Iterator[str]:
    """Compute the pads that auto_pad stands for; esp-ppq knows it in two dimensions only.

    A ConvTranspose without any gets zeros: esp-ppq cannot read their absence.
    """
    for node in graph.of_type("Conv", "ConvTranspose", *POOLS):
        mode = attribute_of(node, "auto_pad", "NOTSET")
        if mode == "NOTSET" and not (
            node.op_type == "ConvTranspose" and has_attribute(node, "output_shape")
        ):
            if has_attribute(node, "auto_pad"):
                drop_attribute(node, "auto_pad")
            axes = len(_weight_shape(graph, node)[2:]) if node.op_type == "ConvTranspose" else 0
            if axes and not has_attribute(node, "pads"):
                set_attribute(node, "pads", [0] * 2 * axes)
                yield node.name
            continue
        pads = _pads_of(graph, node, mode)
        if pads is None:
            continue
        drop_attribute(node, "auto_pad", "output_shape")
        set_attribute(node, "pads", pads)
        yield node.name


def _pads_of(graph: Graph, node: NodeProto, mode: str) -> list[int] | None:
    kernel = attribute_of(node, "kernel_shape") or list(_weight_shape(graph, node)[2:])
    ours, count = graph.shape(node.input[0]), len(kernel)
    if ours is None or not kernel:
        return None
    strides = attribute_of(node, "strides", [1] * count)
    dilations = attribute_of(node, "dilations", [1] * count)
    sizes = zip(ours[2:], kernel, strides, dilations, strict=True)
    if mode == "VALID":
        return [0] * 2 * count
    if node.op_type == "ConvTranspose":
        extra = attribute_of(node, "output_padding", [0] * count)
        wanted = attribute_of(node, "output_shape", [])[-count:]
        wanted = wanted or [size * stride for size, stride in zip(ours[2:], strides, strict=True)]
        totals = [
            stride * (size - 1) + more + (width - 1) * dilation + 1 - out
            for (size, width, stride, dilation), more, out in zip(sizes, extra, wanted, strict=True)
        ]
        if min(totals) < 0:
            return None
    else:
        totals = [
            max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
            for size, width, stride, dilation in sizes
        ]
    halves = [total // 2 for total in totals]
    rests = [total - half for total, half in zip(totals, halves, strict=True)]
    # The larger half lies at the end in the one mode and at the begin in the other.
    at_end = mode == "SAME_UPPER"
    return [*halves, *rests] if at_end else [*rests, *halves]


def _weight_shape(graph: Graph, node: NodeProto) -> tuple[int, ...]:
    return (graph.shape(node.input[1]) or ()) if graph.has_input(node, 1) else ()


def reduction_axes(graph: Graph) -> Iterator[str]:
    """Spell out keepdims, which the exporter asks for, and axes that are left out or empty."""
    for node in graph.of_type(*REDUCTIONS):
        changed = False
        if not has_attribute(node, "keepdims"):
            set_attribute(node, "keepdims", 1)
            changed = True
        if graph.opset >= 18 or (graph.opset >= 13 and node.op_type == "ReduceSum"):
            axes = graph.input_constant(node, 1)
            rank = _rank(graph, node.input[0])
            is_open = not graph.has_input(node, 1) or (axes is not None and axes.size == 0)
            if is_open and attribute_of(node, "noop_with_empty_axes", 0):
                if node.op_type in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"):
                    graph.bypass(node)
                    changed = True
            elif is_open and rank:
                graph.set_input(node, 1, graph.add_constant("axes", np.arange(rank)))
                changed = True
        if changed:
            yield node.name


def products(graph: Graph) -> Iterator[str]:
    """Take the product along several axes one after the other: esp-ppq takes one."""
    for node in graph.of_type("ReduceProd"):
        axes, rank = graph.input_constant(node, 1), _rank(graph, node.input[0])
        if axes is None or rank is None or axes.size < 2:
            continue
        keep, source, made, name = attribute_of(node, "keepdims", 1), node.input[0], [], node.name
        # From the last one on, so that those before keep their places.
        for axis in sorted(axes.reshape(-1) % rank, reverse=True):
            target = graph.fresh(f"{node.output[0]}_part")
            along = graph.add_constant("axes", np.array([axis], dtype=np.int64))
            made.append(graph.node("ReduceProd", [source, along], [target], node, keepdims=keep))
            source = target
        made[-1].output[0] = node.output[0]
        graph.replace(node, made)
        yield name


def _rank(graph: Graph, name: str) -> int | None:
    shape = graph.shape(name)
    return None if shape is None else len(shape)


def softmax_axis(graph: Graph) -> Iterator[str]:
    """Spell out the axis, which the exporter asks for; the standard's default is the last one."""
    for node in graph.of_type("Softmax", "LogSoftmax"):
        if graph.opset >= 13 and not has_attribute(node, "axis"):
            set_attribute(node, "axis", -1)
            yield node.name


def argmax_axis(graph: Graph) -> Iterator[str]:
    """Spell out the axis 0: without one, esp-ppq looks at the whole tensor."""
    for node in graph.of_type("ArgMax"):
        if not has_attribute(node, "axis"):
            set_attribute(node, "axis", 0)
            yield node.name


def transpose_order(graph: Graph) -> Iterator[str]:
    """Spell out the reversed order, which esp-ppq asks for."""
    for node in graph.of_type("Transpose"):
        rank = _rank(graph, node.input[0])
        if rank is not None and not has_attribute(node, "perm"):
            set_attribute(node, "perm", list(reversed(range(rank))))
            yield node.name


def counted_axes(graph: Graph) -> Iterator[str]:
    """Count axes from the front: esp-ppq's Gather ignores a negative one."""
    for node in graph.of_type("Gather", "GatherElements", "ScatterElements", "ReverseSequence"):
        axis, rank = attribute_of(node, "axis", 0), _rank(graph, node.input[0])
        if axis < 0 and rank is not None:
            set_attribute(node, "axis", axis + rank)
            yield node.name


def squeezed_axes(graph: Graph) -> Iterator[str]:
    """Count the axes of Squeeze and Unsqueeze from the front, in order: esp-ppq takes one after
    the other, while the rank changes."""
    if graph.opset < 13:
        return
    for node in graph.of_type("Squeeze", "Unsqueeze"):
        axes = graph.input_constant(node, 1)
        rank = _rank(graph, node.input[0])
        if axes is None or rank is None or axes.size < 2 or (axes >= 0).all():
            continue
        full = rank + (axes.size if node.op_type == "Unsqueeze" else 0)
        counted = np.sort(axes.reshape(-1) % full)
        graph.set_input(node, 1, graph.add_constant("axes", counted))
        yield node.name


def slice_axes(graph: Graph) -> Iterator[str]:
    """Spell out the axes of a Slice that has steps and no axes."""
    for node in graph.of_type("Slice"):
        starts = graph.input_constant(node, 1)
        if len(node.input) > 3 and not graph.has_input(node, 3) and starts is not None:
            graph.set_input(node, 3, graph.add_constant("axes", np.arange(starts.size)))
            yield node.name


def split_sizes(graph: Graph) -> Iterator[str]:
    """Spell out the sizes of a Split into parts that are not equal: esp-ppq makes them equal."""
    for node in graph.of_type("Split"):
        shape, parts = graph.shape(node.input[0]), len(node.output)
        axis = attribute_of(node, "axis", 0)
        if graph.has_input(node, 1) or has_attribute(node, "split") or shape is None:
            continue
        size = shape[axis]
        if graph.opset < 13 or (size % parts == 0 and not has_attribute(node, "num_outputs")):
            continue
        part = -(-size // parts)
        sizes = [part] * (parts - 1) + [size - part * (parts - 1)]
        graph.set_input(node, 1, graph.add_constant("split", np.array(sizes, dtype=np.int64)))
        drop_attribute(node, "num_outputs")
        yield node.name


def pad_axes(graph: Graph) -> Iterator[str]:
    """Give a Pad of some axes pads for all of them: esp-ppq takes no axes."""
    for node in graph.of_type("Pad"):
        pads, axes = graph.input_constant(node, 1), graph.input_constant(node, 3)
        rank = _rank(graph, node.input[0])
        if axes is None or pads is None or rank is None:
            continue
        whole = np.zeros(2 * rank, dtype=np.int64)
        for place, axis in enumerate(axes.reshape(-1) % rank):
            whole[axis], whole[rank + axis] = pads[place], pads[axes.size + place]
        graph.set_input(node, 1, graph.add_constant("pads", whole))
        del node.input[3:]
        yield node.name


def resize_axes(graph: Graph) -> Iterator[str]:
    """Give a Resize of some axes scales or sizes for all of them: esp-ppq takes no axes."""
    for node in graph.of_type("Resize"):
        shape = graph.shape(node.input[0])
        axes = attribute_of(node, "axes")
        if axes is None or shape is None:
            continue
        counted = [axis % len(shape) for axis in axes]
        scales, sizes = graph.input_constant(node, 2), graph.input_constant(node, 3)
        if sizes is not None and sizes.size:
            if attribute_of(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
                continue
            whole = np.array(shape, dtype=np.int64)
            whole[counted] = sizes
            graph.set_input(node, 3, graph.add_constant("sizes", whole))
        elif scales is not None and scales.size:
            factors = np.ones(len(shape), dtype=np.float32)
            factors[counted] = scales
            graph.set_input(node, 2, graph.add_constant("scales", factors))
        else:
            continue
        drop_attribute(node, "axes")
        yield node.name


def resize_scales(graph: Graph) -> Iterator[str]:
    """Give scales instead of sizes, where they come to the same: sizes hold a batch size."""
    for node in graph.of_type("Resize"):
        shape, sizes = graph.shape(node.input[0]), graph.input_constant(node, 3)
        if shape is None or sizes is None or sizes.size != len(shape):
            continue
        if attribute_of(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            continue
        scales = sizes.astype(np.float64) / np.array(shape)
        if tuple(sizes[:2]) != shape[:2] or not _gives(shape, scales, sizes):
            continue
        graph.set_input(node, 2, graph.add_constant("scales", scales.astype(np.float32)))
        del node.input[3:]
        yield node.name


def _gives(shape: Any, scales: Any, sizes: Any) -> bool:
    """Tell whether scales give sizes in either precision, and place the samples alike."""
    narrow = scales.astype(np.float32)
    exact = np.array_equal(narrow.astype(np.float64), scales)
    return exact and all(
        np.array_equal(np.floor(np.array(shape, dtype=kind) * scales.astype(kind)), sizes)
        for kind in (np.float32, np.float64)
    )


def recurrent_defaults(graph: Graph) -> Iterator[str]:
    """Leave out activations that are the default ones: esp-ppq takes none at all."""
    defaults = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
    for node in graph.of_type(*defaults):
        functions = attribute_of(node, "activations")
        if functions is None:
            continue
        names = [each.decode() if isinstance(each, bytes) else each for each in functions]
        own = defaults[node.op_type]
        if [name.lower() for name in names] in (
            [name.lower() for name in own],
            [name.lower() for name in own * 2],
        ):
            drop_attribute(node, "activations", "activation_alpha", "activation_beta")
            yield node.name


def trailing_inputs(graph: Graph) -> Iterator[str]:
    """Leave out inputs at the end that are not there: esp-ppq counts them."""
    for node in graph.nodes:
        count = len(node.input)
        while node.input and not node.input[-1]:
            del node.input[-1]
        if len(node.input) != count:
            yield node.name


def unread_outputs(graph: Graph) -> Iterator[str]:
    """Leave out outputs at the end that nobody reads, and name others that have no name.

    esp-ppq's ops return fewer than the standard's may, and all that have no name are one tensor to
    it, which other ops then read where they have no input. Of recurrent ops its quantizer reads all
    states, also those that a file leaves out.
    """
    optional = ("MaxPool", "Dropout", "BatchNormalization", "LayerNormalization")
    states = {"LSTM": 3, "GRU": 2}
    for node in graph.nodes:
        count, changed = len(node.output), False
        if node.op_type in states:
            node.output.extend([""] * (states[node.op_type] - count))
        while len(node.output) > states.get(node.op_type, 1) and (
            not node.output[-1]
            or (node.op_type in optional and not _is_read(graph, node.output[-1]))
        ):
            del node.output[-1]
        for place, name in enumerate(node.output):
            if not name:
                node.output[place] = graph.fresh(f"{node.name}_unread")
                changed = True
        if changed or len(node.output) != count:
            yield node.name


def _is_read(graph: Graph, name: str) -> bool:
    return name in graph.outputs or bool(graph.readers(name))


def node_names(graph: Graph) -> Iterator[str]:
    """Name nodes that have no name, or one that another node has, too."""
    seen: set[str] = set()
    for place, node in enumerate(graph.nodes):
        if not node.name or node.name in seen:
            node.name = graph.fresh(f"{node.name or node.op_type}_{place}")
            yield node.name
        seen.add(node.name)
