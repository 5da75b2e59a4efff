"""Rewrites that write an op as others which come to the same, and which esp-ppq reads rightly.

Each function yields the name of every node that it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import TensorProto

from espdl_quantize.ppq.normalise.graph import (
    Graph,
    NodeProto,
    attribute_of,
    set_attribute,
)


def dropouts(graph: Graph) -> Iterator[str]:
    """Leave out a Dropout, which passes everything on outside of training."""
    for node in graph.of_type("Dropout"):
        training = graph.input_constant(node, 2)
        if len(node.output) > 1 or (graph.has_input(node, 2) and (training is None or training)):
            continue
        yield node.name
        graph.bypass(node)


def initial_states(graph: Graph) -> Iterator[str]:
    """Give a GRU or LSTM that starts from nothing zeros that have the input's batch size.

    esp-ppq's alignment pass reads the bias and the initial states by their places. Zeros of a fixed
    size would be of a batch of one.
    """
    gates = {"GRU": 3, "LSTM": 4}
    for node in graph.of_type(*gates):
        states = (5, 6) if node.op_type == "LSTM" else (5,)
        missing = [place for place in states if _is_zero(graph, node, place)]
        shape = graph.shape(node.input[2])
        if not missing or shape is None or attribute_of(node, "layout", 0) != 0:
            continue
        directions, _, hidden = shape
        if not graph.has_input(node, 3):
            count = 2 * gates[node.op_type] * hidden
            bias = graph.add_constant("no_bias", np.zeros((directions, count), np.float32))
            graph.set_input(node, 3, bias)
        # The first number of the first step of each sample: [1, batch, 1].
        places = [
            graph.add_constant(name, np.array(value, np.int64))
            for name, value in (("first", [0, 0]), ("second", [1, 1]), ("axes", [0, 2]))
        ]
        zeros = graph.add_constant("zeros", np.zeros((directions, 1, hidden), np.float32))
        first = graph.fresh(f"{node.name}_first")
        state = graph.fresh(f"{node.name}_zeros")
        for place in missing:
            graph.set_input(node, place, state)
        graph.replace(
            node,
            [
                graph.node("Slice", [node.input[0], *places], [first], node),
                graph.node("Mul", [first, zeros], [state], node),
                node,
            ],
        )
        yield node.name


def _is_zero(graph: Graph, node: NodeProto, place: int) -> bool:
    """Tell whether a state is not there, or zeros of one batch size."""
    value = graph.input_constant(node, place)
    return not graph.has_input(node, place) or (value is not None and not value.any())


def chains(graph: Graph) -> Iterator[str]:
    """Join the inputs of Sum, Mean, Max and Min two by two; esp-ppq takes no others."""
    pairwise = {"Sum": "Add", "Mean": "Add", "Max": "Max", "Min": "Min"}
    for node in graph.of_type(*pairwise):
        inputs, op_type = list(node.input), pairwise[node.op_type]
        if node.op_type in ("Max", "Min") and len(inputs) == 2:
            continue
        name, made, joined = node.name, [], inputs[0]
        for each in inputs[1:]:
            target = graph.fresh(f"{node.output[0]}_part")
            made.append(graph.node(op_type, [joined, each], [target], node))
            joined = target
        if node.op_type == "Mean" and len(inputs) > 1:
            target = graph.fresh(f"{node.output[0]}_part")
            share = graph.add_constant("share", np.array(1 / len(inputs), dtype=np.float32))
            made.append(graph.node("Mul", [joined, share], [target], node))
        if made:
            made[-1].output[0] = node.output[0]
            graph.replace(node, made)
        else:
            graph.bypass(node)
        yield name


def space_to_depth(graph: Graph) -> Iterator[str]:
    """Write SpaceToDepth by Reshape and Transpose: esp-ppq orders the channels another way."""
    for node in graph.of_type("SpaceToDepth"):
        shape, size = graph.shape(node.input[0]), attribute_of(node, "blocksize")
        if shape is None or shape[1] == 1:
            continue
        _, channels, height, width = shape
        apart = [-1, channels, height // size, size, width // size, size]
        whole = [-1, channels * size * size, height // size, width // size]
        yield node.name
        _reordered(graph, node, apart, [0, 3, 5, 1, 2, 4], whole)


def _reordered(
    graph: Graph, node: NodeProto, apart: list[int], order: list[int], whole: list[int]
) -> None:
    parts = [graph.fresh(f"{node.output[0]}_part") for _ in range(2)]
    shapes = [
        graph.add_constant("shape", np.array(each, dtype=np.int64)) for each in (apart, whole)
    ]
    graph.replace(
        node,
        [
            graph.node("Reshape", [node.input[0], shapes[0]], [parts[0]], node),
            graph.node("Transpose", [parts[0]], [parts[1]], node, perm=order),
            graph.node("Reshape", [parts[1], shapes[1]], [node.output[0]], node),
        ],
    )


def prelu(graph: Graph) -> Iterator[str]:
    """Write a PRelu whose slopes are not one per channel as relu(x) - slope * relu(-x)."""
    for node in graph.of_type("PRelu"):
        slope, shape = graph.input_constant(node, 1), graph.shape(node.input[0])
        if shape is None or (slope is not None and _is_per_channel(slope, shape)):
            continue
        source, target, name = node.input[0], node.output[0], node.name
        positive, minus, negative, scaled = (graph.fresh(f"{target}_part") for _ in range(4))
        graph.replace(
            node,
            [
                graph.node("Relu", [source], [positive], node),
                graph.node("Neg", [source], [minus], node),
                graph.node("Relu", [minus], [negative], node),
                graph.node("Mul", [negative, node.input[1]], [scaled], node),
                graph.node("Sub", [positive, scaled], [target], node),
            ],
        )
        yield name


def _is_per_channel(slope: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether esp-ppq's reading, along the second axis, is the standard's."""
    if slope.size == 1:
        return True
    wanted = [1] * len(shape)
    if len(shape) < 2:
        return False
    wanted[1] = shape[1]
    return [1] * (len(shape) - slope.ndim) + list(slope.shape) == wanted


def layer_norm(graph: Graph) -> Iterator[str]:
    """Let a LayerNormalization normalize one axis, with one factor for each of its places."""
    for node in graph.of_type("LayerNormalization"):
        shape, scale = graph.shape(node.input[0]), graph.input_constant(node, 1)
        shift = graph.input_constant(node, 2)
        if shape is None or scale is None or (graph.has_input(node, 2) and shift is None):
            continue
        axis = attribute_of(node, "axis", -1) % len(shape)
        size = int(np.prod(shape[axis:]))
        constants = [(1, scale), *([(2, shift)] if shift is not None else [])]
        if axis == len(shape) - 1 and all(each.shape == (size,) for _, each in constants):
            continue
        if axis == 0:
            continue
        for place, each in constants:
            spread = np.broadcast_to(each, shape[axis:]).reshape(-1).astype(each.dtype)
            graph.set_input(node, place, graph.add_constant("factor", spread))
        name = node.name
        if axis < len(shape) - 1:
            flat, normed = (graph.fresh(f"{node.output[0]}_part") for _ in range(2))
            shapes = [
                graph.add_constant("shape", np.array([0] * axis + last, dtype=np.int64))
                for last in ([size], list(shape[axis:]))
            ]
            source, target = node.input[0], node.output[0]
            graph.set_input(node, 0, flat)
            node.output[0] = normed
            graph.replace(
                node,
                [
                    graph.node("Reshape", [source, shapes[0]], [flat], node),
                    node,
                    graph.node("Reshape", [normed, shapes[1]], [target], node),
                ],
            )
        set_attribute(node, "axis", -1)
        yield name


def transposed_pads(graph: Graph) -> Iterator[str]:
    """Cut the output of a ConvTranspose by a Slice where its pads are not the same all around.

    esp-ppq takes the pads of the height for the width.
    """
    for node in graph.of_type("ConvTranspose"):
        pads, shape = attribute_of(node, "pads", []), graph.shape(node.output[0])
        if len(set(pads)) < 2 or attribute_of(node, "auto_pad", "NOTSET") != "NOTSET":
            continue
        if shape is None or len(pads) != 2 * (len(shape) - 2):
            continue
        common, count = min(pads), len(shape) - 2
        begins = [each - common for each in pads[:count]]
        whole = graph.fresh(f"{node.output[0]}_whole")
        bounds = [
            graph.add_constant(name, np.array(each, dtype=np.int64))
            for name, each in (
                ("starts", begins),
                ("ends", [begin + size for begin, size in zip(begins, shape[2:], strict=True)]),
                ("axes", list(range(2, count + 2))),
            )
        ]
        target = node.output[0]
        node.output[0] = whole
        set_attribute(node, "pads", [common] * 2 * count)
        cut = graph.node("Slice", [whole, *bounds], [target], node)
        graph.replace(node, [node, cut])
        yield node.name


def reciprocals(graph: Graph) -> Iterator[str]:
    """Write a Reciprocal as a Div, which chips have."""
    for node in graph.of_type("Reciprocal"):
        if graph.element_type(node.input[0]) not in (TensorProto.FLOAT, None):
            continue
        one = graph.add_constant("one", np.array([1.0], dtype=np.float32))
        source, name = node.input[0], node.name
        if graph.shape(source) == ():
            continue
        graph.replace(node, [graph.node("Div", [one, source], [node.output[0]], node)])
        yield name


def instance_norms(graph: Graph) -> Iterator[str]:
    """Write an InstanceNormalization by means: esp-ppq ignores its epsilon, and no chip has it."""
    for node in graph.of_type("InstanceNormalization"):
        shape = graph.shape(node.input[0])
        scale, shift = graph.input_constant(node, 1), graph.input_constant(node, 2)
        if shape is None or scale is None or shift is None or graph.opset < 18:
            continue
        along = (1, -1, *[1] * (len(shape) - 2))
        epsilon = np.array([attribute_of(node, "epsilon", 1e-5)], dtype=np.float32)
        numbers = {
            "scale": scale.reshape(along),
            "shift": shift.reshape(along),
            "epsilon": epsilon,
            "axes": np.arange(2, len(shape)),
        }
        constants = {name: graph.add_constant(name, each) for name, each in numbers.items()}
        names = ("mean", "apart", "square", "variance", "more", "deviation", "normal", "scaled")
        part = {name: graph.fresh(f"{node.output[0]}_{name}") for name in names}
        axes, name = constants["axes"], node.name
        steps = (
            ("ReduceMean", [node.input[0], axes], part["mean"]),
            ("Sub", [node.input[0], part["mean"]], part["apart"]),
            ("Mul", [part["apart"], part["apart"]], part["square"]),
            ("ReduceMean", [part["square"], axes], part["variance"]),
            ("Add", [part["variance"], constants["epsilon"]], part["more"]),
            ("Sqrt", [part["more"]], part["deviation"]),
            ("Div", [part["apart"], part["deviation"]], part["normal"]),
            ("Mul", [part["normal"], constants["scale"]], part["scaled"]),
            ("Add", [part["scaled"], constants["shift"]], node.output[0]),
        )
        graph.replace(
            node,
            [
                graph.node(op, ins, [out], node, **({"keepdims": 1} if op == "ReduceMean" else {}))
                for op, ins, out in steps
            ],
        )
        yield name


def global_max(graph: Graph) -> Iterator[str]:
    """Write a GlobalMaxPool as a ReduceMax, which chips have."""
    for node in graph.of_type("GlobalMaxPool"):
        shape, name = graph.shape(node.input[0]), node.name
        if shape is None or graph.opset < 18:
            continue
        axes = graph.add_constant("axes", np.arange(2, len(shape)))
        inputs = [node.input[0], axes]
        graph.replace(node, [graph.node("ReduceMax", inputs, [node.output[0]], node, keepdims=1)])
        yield name


def vector_products(graph: Graph) -> Iterator[str]:
    """Write a product with a constant vector as one with a matrix of one column, or one row.

    The exporter packs matrices for the kernel and leaves a vector as it is
    (``ResetParamLayoutPattern``), which the kernel then reads in another order.
    """
    for node in graph.of_type("MatMul"):
        for place, axis in ((1, -1), (0, -2)):
            vector = graph.input_constant(node, place)
            other = graph.shape(node.input[1 - place])
            if vector is None or vector.ndim != 1 or other is None or len(other) < 2:
                continue
            matrix = np.expand_dims(vector, 1 if place else 0)
            inputs, part, name = list(node.input), graph.fresh(f"{node.output[0]}_part"), node.name
            inputs[place] = graph.add_constant("matrix", matrix)
            axes = graph.add_constant("axes", np.array([axis], np.int64))
            graph.replace(
                node,
                [
                    graph.node("MatMul", inputs, [part], node),
                    graph.node("Squeeze", [part, axes], [node.output[0]], node),
                ],
            )
            yield name
            break


def nearest_places(graph: Graph) -> Iterator[str]:
    """Write a nearest Resize that takes other places than esp-ppq's as a Gather for each axis."""
    for node in graph.of_type("Resize"):
        shape, wanted = graph.shape(node.input[0]), graph.shape(node.output[0])
        if attribute_of(node, "mode", "nearest") != "nearest" or shape is None or wanted is None:
            continue
        if len(shape) != len(wanted) or shape[:2] != wanted[:2]:
            continue
        if attribute_of(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
            continue
        scales = graph.input_constant(node, 2)
        factors = _factors(shape, wanted, scales)
        mode = attribute_of(node, "coordinate_transformation_mode", "half_pixel")
        rounding = attribute_of(node, "nearest_mode", "round_prefer_floor")
        places = {
            axis: _places(shape[axis], wanted[axis], factors[axis], mode, rounding)
            for axis in range(2, len(shape))
        }
        if any(each is None for each in places.values()):
            continue
        if all(
            np.array_equal(each, _torch_places(shape[axis], wanted[axis], factors[axis]))
            for axis, each in places.items()
        ):
            continue
        name, target, source, made = node.name, node.output[0], node.input[0], []
        for axis, each in places.items():
            if np.array_equal(each, np.arange(shape[axis])):
                continue
            out = graph.fresh(f"{target}_part")
            taken = graph.add_constant("places", np.asarray(each))
            made.append(graph.node("Gather", [source, taken], [out], node, axis=axis))
            source = out
        if not made:
            graph.bypass(node)
        else:
            made[-1].output[0] = target
            graph.replace(node, made)
        yield name


def _factors(shape: Any, wanted: Any, scales: Any) -> list[float]:
    if scales is not None and scales.size == len(shape):
        return [float(each) for each in scales]
    return [out / size for size, out in zip(shape, wanted, strict=True)]


def _places(size: int, out: int, factor: float, mode: str, rounding: str) -> Any:
    """Return the places that the standard takes; None for a mode that is not known here.

    Source: ONNX's operator reference, Resize, ``coordinate_transformation_mode``.
    """
    at = np.arange(out, dtype=np.float32)
    scale = np.float32(factor)
    if mode == "asymmetric":
        x = at / scale
    elif mode == "half_pixel" or (mode == "pytorch_half_pixel" and out > 1):
        x = (at + np.float32(0.5)) / scale - np.float32(0.5)
    elif mode == "pytorch_half_pixel":
        x = np.zeros_like(at)
    elif mode == "align_corners":
        x = at * np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.zeros_like(at)
    elif mode == "half_pixel_symmetric":
        adjusted = np.float32(out) / (scale * np.float32(size))
        offset = np.float32(size / 2) * (1 - adjusted)
        x = offset + (at + np.float32(0.5)) / scale - np.float32(0.5)
    else:
        return None
    rules: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda each: np.ceil(each - np.float32(0.5)),
        "round_prefer_ceil": lambda each: np.floor(each + np.float32(0.5)),
    }
    if rounding not in rules:
        return None
    return np.clip(rules[rounding](x), 0, size - 1).astype(np.int64)


def _torch_places(size: int, out: int, factor: float) -> Any:
    """Return the places that torch's ``interpolate`` takes, as esp-ppq calls it."""
    import torch
    from torch.nn import functional

    ramp = torch.arange(size, dtype=torch.float32).reshape(1, 1, size)
    made = functional.interpolate(ramp, scale_factor=factor, mode="nearest")
    if made.shape[-1] != out:
        made = functional.interpolate(ramp, size=out, mode="nearest")
    return made.reshape(-1).numpy().astype(np.int64)


def clean_constants(graph: Graph) -> Iterator[str]:
    """Make constants of the Constant nodes whose value esp-ppq's parser does not find."""
    for node in graph.of_type("Constant"):
        value = graph.constant(node.output[0])
        if value is None or node.attribute[0].name == "value" or node.output[0] in graph.outputs:
            continue
        name, target = node.name, node.output[0]
        constant = graph.add_constant(target, value)
        graph.replace(node, [])
        graph.read_instead(target, constant)
        yield name
