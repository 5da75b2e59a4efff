"""Files with numbers of 16 bits: refused by name, and on request read as in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.ppq.normalise.made import Read, model_of, numbers, read

SHAPE = [3, 6, 6]


def _network() -> Any:
    """Return a float32 network whose weights are numbers of 16 bits."""
    constants = {
        "w": numbers(4, 3, 3, 3),
        "b": numbers(4, seed=1),
        "two": np.array(2.0, np.float32),
        "low": np.array(0.0, np.float32),
        "high": np.array(6.0, np.float32),
        "head": numbers(4, 5, seed=2),
    }
    constants = {
        name: each.astype(np.float16).astype(np.float32) for name, each in constants.items()
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], name="conv", pads=[1] * 4),
        helper.make_node("Clip", ["conv", "low", "high"], ["clipped"], name="clip"),
        helper.make_node("Mul", ["clipped", "two"], ["doubled"], name="double"),
        helper.make_node("GlobalAveragePool", ["doubled"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "head"], ["y"], name="head"),
    ]
    return model_of(nodes, SHAPE, constants=constants)


def _narrow(tensor: Any, kind: int) -> None:
    values = numpy_helper.to_array(tensor)
    if kind == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    else:
        tensor.CopyFrom(helper.make_tensor(tensor.name, kind, values.shape, values.flatten()))


def _halved(kind: int = TensorProto.FLOAT16) -> Any:
    """As converters write it: every tensor in 16 bits, and value_info of all that lies between."""
    model = onnx.shape_inference.infer_shapes(_network())
    for tensor in model.graph.initializer:
        _narrow(tensor, kind)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.type.tensor_type.elem_type = kind
    return model


def _float_ends() -> Any:
    """As with keep_io_types: the inputs and outputs in float32, and a Cast behind each."""
    model = _halved()
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        node.input[:] = ["x_half" if name == "x" else name for name in node.input]
        node.output[:] = ["y_half" if name == "y" else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", ["x"], ["x_half"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", ["y_half"], ["y"], to=TensorProto.FLOAT))
    return model


def _constant_nodes() -> Any:
    """Its constants are nodes."""
    model = _halved()
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in tensors:
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
    return model


def _mixed() -> Any:
    """Of mixed precision: the weights and most ops in float32, one op in 16 bits between casts."""
    model = _network()
    nodes = {node.name: node for node in model.graph.node}
    nodes["double"].input[:] = ["clipped_half", "two_half"]
    nodes["double"].output[:] = ["doubled_half"]
    half, whole = TensorProto.FLOAT16, TensorProto.FLOAT
    made = list(model.graph.node)
    made[2:2] = [
        helper.make_node("Cast", ["clipped"], ["clipped_half"], name="down", to=half),
        helper.make_node("Cast", ["two"], ["two_half"], name="down_two", to=half),
    ]
    made.insert(5, helper.make_node("Cast", ["doubled_half"], ["doubled"], name="up", to=whole))
    del model.graph.node[:]
    model.graph.node.extend(made)
    return model


def _function() -> Any:
    """Its casts are in a function of the file's own."""
    model = _mixed()
    down = model.graph.node[2]
    body = [helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT16)]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Down", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    call = helper.make_node("Down", list(down.input), list(down.output), "down", domain="own")
    down.CopyFrom(call)
    return model


FILES = {
    "whole": _halved,
    "bfloat16": lambda: _halved(TensorProto.BFLOAT16),
    "float ends": _float_ends,
    "constant nodes": _constant_nodes,
    "mixed": _mixed,
    "function": _function,
}


@pytest.mark.parametrize("name", FILES)
def test_halves_are_refused_by_name_and_converted_on_request(name: str) -> None:
    refused = read(FILES[name](), SHAPE).refused
    assert refused is not None
    assert "numbers of 16 bits" in refused.cause
    assert "convert_fp16" in refused.hint
    made = read(FILES[name](), SHAPE, convert_fp16=True)
    assert _is_right(made), made
    assert made.rewrites[0].name == "float32"
    assert "Cast" not in made.ops


def _is_right(made: Read) -> bool:
    largest = made.equivalence.largest
    return made.refused is None and not made.notes and largest is not None and largest < 1e-5


def test_what_leaves_the_range_of_16_bits_is_told() -> None:
    model = _halved()
    for tensor in model.graph.initializer:
        if tensor.name == "two":
            value = np.array(3e4, np.float16)
            tensor.CopyFrom(numpy_helper.from_array(value, "two"))
    made = read(model, SHAPE, convert_fp16=True)
    assert [note.code for note in made.notes] == ["half_differs"]
