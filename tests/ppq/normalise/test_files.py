"""However a file spells a model: it is read as what it is, or what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.ppq.normalise.made import model_of, numbers, read

SHAPE = [3, 6, 6]
Model = Any


def plain(opset: int) -> Model:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="first"),
        helper.make_node("Relu", ["c"], ["r"], name="between"),
        helper.make_node("Conv", ["r", "w2"], ["y"], name="last"),
    ]
    weights = {"w": numbers(4, 3, 3, 3), "b": numbers(4), "w2": numbers(4, 4, 1, 1, seed=2)}
    return model_of(nodes, SHAPE, constants=weights, opset=opset)


def rename(*names: str) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        for node, name in zip(model.graph.node, names, strict=False):
            node.name = name

    return change


def tensors(names: dict[str, str]) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        for each in (*model.graph.initializer, *model.graph.input):
            each.name = names.get(each.name, each.name)
        del model.graph.value_info[:]

    return change


def as_inputs(model: Model) -> None:
    """As files of IR 3 have them."""
    for each in model.graph.initializer:
        value = helper.make_tensor_value_info(each.name, each.data_type, each.dims)
        model.graph.input.insert(0, value)


def sparse(model: Model) -> None:
    (place,) = [place for place, each in enumerate(model.graph.initializer) if len(each.dims) == 1]
    dense = numpy_helper.to_array(model.graph.initializer[place])
    name = model.graph.initializer.pop(place).name
    kept = np.array([1, 3])
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(dense[kept], name),
            numpy_helper.from_array(kept, f"{name}/places"),
            [4],
        )
    )


def local_function(model: Model) -> None:
    node = model.graph.node[1]
    body = [helper.make_node(node.op_type, ["a"], ["o"], alpha=0.3)]
    body[0].op_type = "LeakyRelu"
    opsets = [helper.make_opsetid("", model.opset_import[0].version)]
    model.functions.append(helper.make_function("own", "Relu", ["a"], ["o"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    node.domain = "own"


def negative_batch(model: Model) -> None:
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_param:
            dims[0].dim_value = -1


def unread_constant(model: Model) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([b"text"], object), "nobody"))


def constant_output(model: Model) -> None:
    one = numpy_helper.from_array(np.ones(2, np.float32), "one")
    model.graph.node.append(helper.make_node("Constant", [], ["fixed"], "fixed", value=one))
    model.graph.output.append(helper.make_tensor_value_info("fixed", TensorProto.FLOAT, [2]))


def passed_on(model: Model) -> None:
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))


def twice(model: Model) -> None:
    again = onnx.ValueInfoProto()
    again.CopyFrom(model.graph.output[0])
    model.graph.output.append(again)


def unread_input(model: Model) -> None:
    model.graph.input.append(helper.make_tensor_value_info("idle", TensorProto.FLOAT, ["N", 2]))


def lost_constant(model: Model) -> None:
    model.graph.node[-1].input[1] = "lost"


def written_twice(model: Model) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def foreign(model: Model) -> None:
    model.graph.node[1].domain = "somebody"
    model.opset_import.append(helper.make_opsetid("somebody", 1))


def in_training(model: Model) -> None:
    last = model.graph.node[-1]
    for name in "smtv":
        model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), f"n{name}"))
    mode = {"training_mode": 1} if model.opset_import[0].version >= 14 else {}
    outputs = ["y", "mean", "var"] if mode else ["y", "mean", "var", "sm", "sv"]
    inputs = ["inner", "ns", "nm", "nt", "nv"]
    model.graph.node.append(helper.make_node("BatchNormalization", inputs, outputs, "norm", **mode))
    last.output[0] = "inner"


READ: dict[str, Callable[[Model], None]] = {
    "one name for all": rename("same", "same", "same"),
    "no names": rename("", "", ""),
    "odd names": rename("a b/c", "\u5c42 \u202e1", "../\x1b[31m"),
    "odd tensors": tensors({"c": "/c: 0\n", "r": "\u5f20 \u91cf", "w2": "../w", "b": "first"}),
    "constants as inputs": as_inputs,
    "a sparse constant": sparse,
    "a function": local_function,
    "a batch of -1": negative_batch,
    "a constant that nobody reads": unread_constant,
}
"""Spellings of one model."""

REFUSED: dict[str, tuple[Callable[[Model], None], str, str]] = {
    "a constant as an output": (constant_output, "output 'fixed' is a constant", "leave it out"),
    "an input as an output": (passed_on, "output 'x' is the input", "leave it out"),
    "an output twice": (twice, "output 'y' is declared 2 times", "declare it once"),
    "an input that nobody reads": (unread_input, "no op reads the input 'idle'", "without it"),
    "a lost constant": (lost_constant, "reads 'lost'", "export the file again"),
    "a tensor of two ops": (written_twice, "has 2 sources", "a name of its own"),
    "an op of somebody's": (foreign, "the Relu of 'somebody'", "ONNX's own ops"),
    "statistics of the batch": (in_training, "is in training mode", "in eval mode"),
}
"""What no graph can be made of: what changes the file, the cause and the remedy."""


@settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    opset=st.sampled_from([7, 9, 11, 13, 16, 18, 20, 21]),
    spellings=st.lists(st.sampled_from(list(READ)), unique=True, max_size=4),
)
def test_a_file_is_read_however_it_is_spelt(opset: int, spellings: list[str]) -> None:
    if "a function" in spellings:
        # ONNX inlines functions from IR 8 on, which came with opset 16.
        opset = max(opset, 16)
    model = plain(opset)
    # Tensors are renamed before others are added.
    for spelling in sorted(spellings, key=lambda each: (each != "odd tensors", each)):
        READ[spelling](model)
    result = read(model, SHAPE)
    note(f"{result.equivalence} {result.refused} {result.notes}")
    assert result.refused is None
    assert not result.equivalence.findings
    assert result.equivalence.largest is not None
    assert result.equivalence.largest <= 1e-4


@pytest.mark.parametrize("opset", [9, 18])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_graph_is_named(name: str, opset: int) -> None:
    change, cause, remedy = REFUSED[name]
    model = plain(opset)
    change(model)
    result = read(model, SHAPE)
    faults = result.equivalence.faults
    error = result.refused
    assert cause in (error.cause if error is not None else faults[0].message)
    assert remedy in (error.hint if error is not None else faults[0].hint)


def test_weights_beside_a_file_are_read(tmp_path: Any) -> None:
    model = plain(18)
    file = tmp_path / "apart.onnx"
    onnx.save(model, str(file), save_as_external_data=True, location="weights", size_threshold=0)
    result = read(onnx.load(str(file)), SHAPE)
    assert not result.equivalence.findings


def test_what_onnxruntime_does_not_run_is_held_against_its_rewrite() -> None:
    """It has no dilated convolution with auto_pad, and has it with pads."""
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], name="wide", auto_pad="SAME_UPPER", dilations=[2, 2]
    )
    result = read(model_of([node], SHAPE, constants={"w": numbers(4, 3, 3, 3)}), SHAPE)
    assert [each.code for each in result.equivalence.findings] == ["float_not_compared"]
    assert "with the file as it was rewritten" in result.equivalence.findings[0].message
    assert result.equivalence.largest is not None
    assert result.equivalence.largest <= 1e-4
