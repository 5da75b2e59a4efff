"""Whatever a file says: esp-ppq's float graph computes it, or a fault says that it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from onnx import helper

from tests.ppq.normalise.made import model_of, numbers, read

QUICK = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
Draw = Any
Case = tuple[list[Any], list[int], dict[str, Any], tuple[str, ...], int]


def _sizes(draw: Draw, rank: int) -> list[int]:
    return [draw(st.integers(4, 7)) for _ in range(rank)]


def _some(draw: Draw, **choices: Any) -> dict[str, Any]:
    """Leave out some attributes, and draw the others."""
    return {name: draw(each) for name, each in choices.items() if draw(st.booleans())}


def _padding(draw: Draw, rank: int, most: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if kind == "none":
        return {}
    if kind == "pads":
        return {"pads": [draw(st.integers(0, most)) for _ in range(2 * rank)]}
    return {"auto_pad": kind}


@st.composite
def convolutions(draw: Draw) -> Case:
    rank, group = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2]))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    small = st.lists(st.integers(1, 2), min_size=rank, max_size=rank)
    attributes = {
        **_some(draw, strides=small, kernel_shape=st.just(kernel)),
        **_padding(draw, rank, 2),
    }
    if "auto_pad" not in attributes:
        attributes.update(_some(draw, dilations=small))
    constants = {"w": numbers(4, 4 // group, *kernel)}
    inputs = ["x", "w"]
    if draw(st.booleans()):
        constants["b"] = numbers(4, seed=2)
        inputs.append("b")
    nodes = [helper.make_node("Conv", inputs, ["c"], name="conv", group=group, **attributes)]
    shape = draw(st.sampled_from([(1, 4), (4,), (1, 1), ()]))
    constants["k"] = numbers(*shape, *[1] * (rank if shape else 0), seed=3)
    order = ["c", "k"] if draw(st.booleans()) else ["k", "c"]
    nodes.append(helper.make_node("Add", order, ["y"], name="add"))
    return nodes, [4, *_sizes(draw, rank)], constants, ("y",), draw(st.sampled_from([9, 13, 18]))


@st.composite
def transposed(draw: Draw) -> Case:
    rank = draw(st.integers(1, 2))
    kernel = [draw(st.integers(2, 3)) for _ in range(rank)]
    attributes = _padding(draw, rank, 1)
    attributes |= _some(
        draw,
        strides=st.lists(st.integers(1, 2), min_size=rank, max_size=rank),
        group=st.just(2),
    )
    if "auto_pad" not in attributes and draw(st.booleans()):
        attributes["strides"] = [2] * rank
        attributes["output_padding"] = [draw(st.integers(0, 1)) for _ in range(rank)]
    constants = {"w": numbers(4, 2, *kernel)}
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", **attributes)
    return [node], [4, *_sizes(draw, rank)], constants, ("y",), draw(st.sampled_from([11, 18]))


@st.composite
def pools(draw: Draw) -> Case:
    rank, op = draw(st.integers(1, 3)), draw(st.sampled_from(["MaxPool", "AveragePool"]))
    kernel = [draw(st.integers(2, 3)) for _ in range(rank)]
    attributes = {"kernel_shape": kernel, **_padding(draw, rank, 1)}
    attributes |= _some(
        draw,
        strides=st.lists(st.integers(1, 3), min_size=rank, max_size=rank),
        ceil_mode=st.integers(0, 1),
    )
    if op == "AveragePool":
        attributes |= _some(draw, count_include_pad=st.integers(0, 1))
    node = helper.make_node(op, ["x"], ["y"], name="pool", **attributes)
    return [node], [2, *_sizes(draw, rank)], {}, ("y",), draw(st.sampled_from([10, 13, 18]))


@st.composite
def along_axes(draw: Draw) -> Case:
    op = draw(st.sampled_from(["Softmax", "LogSoftmax", "Flatten", "ArgMax", "LpNormalization"]))
    shape = _sizes(draw, draw(st.integers(1, 3)))
    rank = len(shape) + 1
    attributes = _some(draw, axis=st.integers(1 if op != "Flatten" else 0, rank - 1))
    if draw(st.booleans()) and "axis" in attributes:
        attributes["axis"] = attributes["axis"] - rank or 1
    opset = draw(st.sampled_from([11, 12, 13, 18, 20]))
    if op == "ArgMax":
        attributes.setdefault("axis", 1)
    node = helper.make_node(op, ["x"], ["y"], name="op", **attributes)
    return [node], shape, {}, ("y",), opset


@st.composite
def reductions(draw: Draw) -> Case:
    kinds = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]
    op = f"Reduce{draw(st.sampled_from(kinds))}"
    shape = _sizes(draw, draw(st.integers(1, 3)))
    rank, opset = len(shape) + 1, draw(st.sampled_from([11, 13, 18, 20]))
    axes = draw(st.lists(st.integers(1, rank - 1), unique=True, min_size=1, max_size=3))
    if draw(st.booleans()):
        axes = [axis - rank for axis in axes]
    attributes, constants, inputs = _some(draw, keepdims=st.integers(0, 1)), {}, ["x"]
    if opset >= 18 or (opset == 13 and op == "ReduceSum"):
        constants["axes"] = np.array(axes)
        inputs.append("axes")
    else:
        attributes["axes"] = axes
    # The logarithm of a negative sum is no number.
    first = helper.make_node("Abs", ["x"], ["a"], name="abs")
    node = helper.make_node(op, ["a", *inputs[1:]], ["y"], name="reduce", **attributes)
    return [first, node], shape, constants, ("y",), opset


@st.composite
def splits(draw: Draw) -> Case:
    shape, opset = _sizes(draw, 2), draw(st.sampled_from([11, 13, 18, 20]))
    axis, parts = draw(st.sampled_from([1, 2, -1, -2])), draw(st.integers(2, 3))
    size = shape[axis - 1 if axis > 0 else axis]
    attributes: dict[str, Any] = {"axis": axis}
    constants, inputs = {}, ["x"]
    sizes = [1] * (parts - 1) + [size - parts + 1]
    if draw(st.booleans()) or (opset < 18 and size % parts):
        if opset < 13:
            attributes["split"] = sizes
        else:
            constants["sizes"] = np.array(sizes)
            inputs.append("sizes")
    elif opset >= 18:
        attributes["num_outputs"] = parts
    names = tuple(f"y{number}" for number in range(parts))
    node = helper.make_node("Split", inputs, list(names), name="split", **attributes)
    return [node], shape, constants, names, opset


@st.composite
def resizes(draw: Draw) -> Case:
    rank = draw(st.integers(1, 2))
    shape = [2, *_sizes(draw, rank)]
    attributes = _some(
        draw,
        mode=st.sampled_from(["nearest", "linear", "cubic"]),
        coordinate_transformation_mode=st.sampled_from(
            ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
        ),
        nearest_mode=st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
    )
    factors = [draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])) for _ in range(rank)]
    if draw(st.booleans()):
        constants = {"s": np.array([1, 1, *factors], dtype=np.float32)}
        inputs = ["x", "", "s"]
    else:
        sizes = [int(size * factor) for size, factor in zip(shape[1:], factors, strict=True)]
        constants, inputs = {"s": np.array([1, 2, *sizes])}, ["x", "", "", "s"]
    node = helper.make_node("Resize", inputs, ["y"], name="resize", **attributes)
    return [node], shape, constants, ("y",), draw(st.sampled_from([11, 13, 18]))


@st.composite
def products(draw: Draw) -> Case:
    attributes = _some(
        draw, alpha=st.sampled_from([0.5, 1.0]), beta=st.sampled_from([0.3, 1.0]), transB=st.just(1)
    )
    constants = {"w": numbers(*((4, 5) if attributes.get("transB") else (5, 4)))}
    inputs = ["x", "w"]
    if draw(st.booleans()):
        constants["b"] = numbers(*draw(st.sampled_from([(4,), (1,), (), (1, 4), (1, 1)])), seed=2)
        inputs.append("b")
    nodes = [helper.make_node("Gemm", inputs, ["g"], name="gemm", **attributes)]
    if draw(st.booleans()):
        constants["k"] = numbers(*draw(st.sampled_from([(4,), (1,), (1, 4)])), seed=3)
        nodes.append(helper.make_node("Add", ["g", "k"], ["y"], name="add"))
    else:
        nodes.append(helper.make_node("Relu", ["g"], ["y"], name="relu"))
    return nodes, [5], constants, ("y",), draw(st.sampled_from([11, 13, 18]))


@st.composite
def moves(draw: Draw) -> Case:
    shape, opset = [2, *_sizes(draw, 2)], 18
    op = draw(st.sampled_from(["Gather", "Transpose", "Slice", "Pad", "Unsqueeze", "Squeeze"]))
    constants: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    inputs = ["x"]
    if op == "Gather":
        attributes = {"axis": draw(st.sampled_from([1, 2, 3, -1, -2, -3]))}
        constants["i"] = np.array(draw(st.sampled_from([[0, 1], [-1, 0], [[0, 1], [1, 0]], 1])))
        inputs.append("i")
    elif op == "Transpose":
        attributes = {"perm": [0, *draw(st.permutations([1, 2, 3]))]}
    elif op == "Slice":
        axes = draw(st.sampled_from([[2, 3], [-1, 2], [-2, -1], [3]]))
        steps = [draw(st.sampled_from([1, 2, -1])) for _ in axes]
        constants["s"] = np.array([-1 if step < 0 else draw(st.integers(0, 2)) for step in steps])
        ends = [-100 if step < 0 else draw(st.sampled_from([3, 100, -1])) for step in steps]
        constants |= {"e": np.array(ends), "a": np.array(axes), "t": np.array(steps)}
        inputs += ["s", "e", "a", "t"]
    elif op == "Pad":
        attributes = _some(draw, mode=st.sampled_from(["constant", "reflect", "edge", "wrap"]))
        opset = 19 if attributes.get("mode") == "wrap" else 18
        if draw(st.booleans()):
            constants["p"] = np.array([draw(st.integers(0, 2)) for _ in range(4)])
            constants["a"] = np.array(draw(st.sampled_from([[2, 3], [-1, -2], [3, 2]])))
            inputs += ["p", "", "a"]
        else:
            sides = [draw(st.integers(0, 2)) for _ in range(4)]
            constants["p"] = np.array([0, 0, *sides[:2], 0, 0, *sides[2:]])
            inputs.append("p")
    else:
        axes = draw(st.sampled_from([[1], [-1], [1, -1], [-1, -2], [1, 3]]))
        constants["a"] = np.array(axes)
        inputs.append("a")
        if op == "Squeeze":
            shape = [1, 1, 1] if len(axes) > 1 else [1, 5, 1]
    first = helper.make_node("Relu", ["x"], ["r"], name="relu")
    node = helper.make_node(op, ["r", *inputs[1:]], ["y"], name="move", **attributes)
    return [first, node], shape, constants, ("y",), opset


@st.composite
def norms(draw: Draw) -> Case:
    op = draw(
        st.sampled_from(
            ["BatchNormalization", "InstanceNormalization", "LayerNormalization", "PRelu"]
        )
    )
    shape = [3, *_sizes(draw, draw(st.integers(1, 2)))]
    epsilon = _some(draw, epsilon=st.sampled_from([1e-5, 1e-3, 0.1]))
    constants = {"a": numbers(3), "b": numbers(3, seed=2)}
    if op == "BatchNormalization":
        constants |= {"c": numbers(3, seed=3), "d": np.abs(numbers(3, seed=4)) + 0.1}
    elif op == "LayerNormalization":
        axis = draw(st.sampled_from([-1, -2, len(shape)]))
        epsilon["axis"] = axis
        last = shape[axis:] if axis < 0 else shape[-1:]
        constants = {"a": numbers(*last), "b": numbers(*last, seed=2)}
    elif op == "PRelu":
        epsilon = {}
        slopes = [(1,), (3, *[1] * (len(shape) - 1)), (shape[-1],), tuple(shape)]
        constants = {"a": np.abs(numbers(*draw(st.sampled_from(slopes))))}
    first = helper.make_node("Tanh", ["x"], ["t"], name="tanh")
    node = helper.make_node(op, ["t", *constants], ["y"], name="norm", **epsilon)
    opset = 18 if op == "LayerNormalization" else draw(st.sampled_from([9, 14, 18]))
    return [first, node], shape, constants, ("y",), opset


@st.composite
def joins(draw: Draw) -> Case:
    op = draw(
        st.sampled_from(["Sum", "Mean", "Max", "Min", "Concat", "SpaceToDepth", "DepthToSpace"])
    )
    shape = [8, 4, 6]
    constants = {}
    attributes: dict[str, Any] = {}
    inputs = ["x"]
    if op in ("SpaceToDepth", "DepthToSpace"):
        attributes = {"blocksize": 2}
        if op == "DepthToSpace":
            attributes |= _some(draw, mode=st.sampled_from(["DCR", "CRD"]))
    else:
        count = draw(st.integers(0, 2))
        for number in range(count):
            wide = [1, 8, 1, 1] if op != "Concat" and draw(st.booleans()) else [1, *shape]
            constants[f"k{number}"] = numbers(*wide, seed=number)
        inputs += list(constants)
        if op == "Concat":
            # Only axes that hold no samples: a constant has one.
            inputs, constants = ["x", "r"], {}
            attributes = {"axis": draw(st.sampled_from([1, -1, 2]))}
    first = helper.make_node("Relu", ["x"], ["r"], name="relu")
    inputs = ["r" if name == "x" else name for name in inputs]
    node = helper.make_node(op, inputs, ["y"], name="join", **attributes)
    return [first, node], shape, constants, ("y",), draw(st.sampled_from([13, 18]))


@st.composite
def recurrent(draw: Draw) -> Case:
    op = draw(st.sampled_from(["LSTM", "GRU"]))
    gates, ways = (4 if op == "LSTM" else 3), draw(st.sampled_from([1, 1, 2]))
    hidden, size = 3, 5
    attributes: dict[str, Any] = {"hidden_size": hidden}
    attributes |= _some(draw, layout=st.just(1), clip=st.just(0.5)) if draw(st.booleans()) else {}
    if op == "GRU":
        attributes |= _some(draw, linear_before_reset=st.just(1))
    if ways == 2:
        attributes["direction"] = "bidirectional"
    else:
        attributes |= _some(draw, direction=st.sampled_from(["forward", "reverse"]))
    constants = {
        "w": numbers(ways, gates * hidden, size),
        "r": numbers(ways, gates * hidden, hidden, seed=2),
    }
    inputs = ["t", "w", "r"]
    if draw(st.booleans()):
        constants["b"] = numbers(ways, 2 * gates * hidden, seed=3)
        inputs.append("b")
    order = [0, 1, 2] if attributes.get("layout") else [1, 0, 2]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=order),
        helper.make_node(op, inputs, ["y", "state"], name="cell", **attributes),
    ]
    return nodes, [4, size], constants, ("y",), draw(st.sampled_from([14, 18]))


KINDS = {
    "convolutions": convolutions(),
    "transposed": transposed(),
    "pools": pools(),
    "along axes": along_axes(),
    "reductions": reductions(),
    "splits": splits(),
    "resizes": resizes(),
    "products": products(),
    "moves": moves(),
    "norms": norms(),
    "joins": joins(),
    "recurrent": recurrent(),
}


@pytest.mark.parametrize("kind", KINDS)
@QUICK
@given(data=st.data())
def test_a_model_is_read_rightly_or_refused(kind: str, data: st.DataObject) -> None:
    nodes, shape, constants, outputs, opset = data.draw(KINDS[kind])
    model = model_of(nodes, shape, constants=constants, outputs=outputs, opset=opset)
    result = read(model, shape)
    # What onnxruntime does not run has no reference.
    assume(all(each.code != "float_not_compared" for each in result.equivalence.findings))
    note(f"{result.names} {result.ops} {result.notes} {result.equivalence} {result.refused}")
    assert result.is_told
