"""Each rule of the chip, and each limit of an op, is broken by an example and kept by its twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espdl_quantize.chip import check_legality
from espdl_quantize.chip._against_graph import differences
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._model import ChipModel, Node, Tensor
from espdl_quantize.chip._rules import DOUBTS, RULES, examine
from espdl_quantize.chip.restrictions import _LIMITS
from espdl_quantize.chip.rule_table import RULE_TABLE
from espdl_quantize.targets.ops import op_table

OF_FILES = {"order", "graph", "file"}
IMAGE = (1, 4, 4, 8)


def tensor(name: str, exponent: int = -4, shape: Any = IMAGE, dtype: str = "int8") -> Tensor:
    return Tensor(name, dtype, tuple(shape), (exponent,))


def constant(name: str, exponent: int, shape: tuple[int, ...], dtype: str = "int8") -> Tensor:
    size = int(np.prod(shape))
    return Tensor(name, dtype, shape, (exponent,), np.ones(size, np.dtype(dtype)))


def alone(
    op_type: str,
    *inputs: Tensor,
    outputs: tuple[Tensor, ...] | None = None,
    constants: Mapping[str, Tensor] | None = None,
    **attributes: Any,
) -> ChipModel:
    """One op in a model; constants are inputs, too, after the others."""
    inputs = inputs or (tensor("x"),)
    outputs = outputs or (replace(inputs[0], name="y"),)
    given = constants or {}
    names = (*(each.name for each in inputs), *(name for name in given if name != "table"))
    ends = tuple(each.name for each in outputs)
    node = Node("op", op_type, names, ends, {"quant_type": "S8", **attributes})
    values = {each.name: each for each in (*inputs, *outputs)}
    return ChipModel((node,), given, values, tuple(each.name for each in inputs), ends)


def conv(
    output: int = -5,
    bias: int = -10,
    weight: tuple[int, ...] = (1, 1, 8, 16),
    source: int = -4,
    out: str = "int8",
    **attributes: Any,
) -> ChipModel:
    """A Conv of 1 x 1: its sum has the exponent -10, its output takes it by a shift of 5."""
    made = {
        "w": constant("w", -6, weight),
        "b": constant("b", bias, (16,), "int32"),
    }
    ends = (tensor("y", output, (1, 4, 4, 16), out),)
    return alone("Conv", tensor("x", source), outputs=ends, constants=made, **attributes)


def depthwise(width: str) -> ChipModel:
    kind, sums = ("int16", "int64") if width == "W8A16" else ("int8", "int32")
    made = {"w": constant("w", -6, (3, 3, 8, 1)), "b": constant("b", -10, (8,), sums)}
    source, end = (tensor(name, -4 - place, IMAGE, kind) for place, name in enumerate("xy"))
    return alone("Conv", source, outputs=(end,), constants=made, quant_type=width, group=8)


def table(entries: int) -> ChipModel:
    made = {"table": Tensor("table", "int8", (entries,), (-4,), np.zeros(entries, np.int8))}
    return alone("Tanh", constants=made, lut="table")


def streaming(length: int) -> ChipModel:
    source, end = tensor("x", shape=(1, 1, 8)), tensor("y", shape=(1, length, 8))
    return alone("StreamingCache", source, outputs=(end,), window_size=3, frame_axis=1)


def unwritten(name: str) -> ChipModel:
    return replace(alone("Relu"), outputs=(name,))


PAIRS: dict[str, tuple[ChipModel, ChipModel]] = {
    # What breaks a rule, and what is as close to it as can be and does not.
    "an Erf": (alone("Erf"), alone("Exp", constants=table(256).constants, lut="table")),
    "an int8 Conv that puts out int16": (conv(out="int16"), conv()),
    "a MaxPool of a dilation of 2": (
        alone("MaxPool", dilations=(2, 2)),
        alone("MaxPool", dilations=(1, 1)),
    ),
    "a depthwise Conv of W8A16": (depthwise("W8A16"), depthwise("S8")),
    "an input with the exponent -40": (
        alone("Flatten", tensor("x", -40)),
        alone("Flatten", tensor("x", -30)),
    ),
    "a Conv whose output has a lower exponent than its sum, on the esp32s3": (
        conv(output=-11),
        conv(output=-10),
    ),
    "a bias one exponent above its sum": (conv(bias=-9), conv()),
    "a MaxPool from the exponent -4 to -5": (
        alone("MaxPool", outputs=(tensor("y", -5),), kernel_shape=(1, 1)),
        alone("MaxPool", kernel_shape=(1, 1)),
    ),
    "a StreamingCache of 3 frames that puts out no more than it reads": (
        streaming(1),
        streaming(3),
    ),
    "an Add of the exponents -4 and -5": (
        alone("Add", tensor("x"), tensor("z", -5)),
        alone("Add", tensor("x"), tensor("z")),
    ),
    "a table of 255 entries": (table(255), table(256)),
    "weights that take 4 channels, for an input of 8": (conv(weight=(1, 1, 4, 16)), conv()),
    "an output that no op writes": (unwritten("z"), unwritten("y")),
    "an Attention": (alone("Attention"), alone("Flatten")),
    "a Conv that shifts its sum by 39, on the esp32s3": (conv(output=29), conv(output=21)),
}


def rules_broken(model: ChipModel, chip: str = "esp32s3") -> dict[str, set[str]]:
    faults, doubts = examine(model, chip_facts(chip))
    return {"fault": {each.rule for each in faults}, "doubt": {each.rule for each in doubts}}


def test_the_table_has_every_rule_and_no_other() -> None:
    assert set(RULE_TABLE) == {*RULES, *DOUBTS, *OF_FILES}
    assert {name for name, rule in RULE_TABLE.items() if rule.kind == "doubt"} == set(DOUBTS)
    examples = [rule.example for rule in RULE_TABLE.values()]
    assert len(set(examples)) == len(examples)
    assert set(PAIRS) == {RULE_TABLE[name].example for name in RULE_TABLE} - {
        RULE_TABLE[name].example for name in ("graph", "file")
    }


@pytest.mark.parametrize("name", [name for name in RULE_TABLE if name not in ("graph", "file")])
def test_a_rule_is_broken_by_its_example_alone(name: str) -> None:
    broken, whole = PAIRS[RULE_TABLE[name].example]
    kind = RULE_TABLE[name].kind
    found = rules_broken(broken)
    assert found[kind] == {name}
    # W8A16 is of a later version by itself.
    assert kind == "fault" or not found["fault"]
    assert rules_broken(whole) == {"fault": set(), "doubt": set()}


def test_a_file_that_the_graph_does_not_make_is_broken() -> None:
    from esp_ppq.core import NetworkFramework
    from esp_ppq.IR import BaseGraph

    found = differences(conv(), BaseGraph("graph", NetworkFramework.ONNX), {})
    assert {fault.rule for fault in found} == {"graph"}
    assert any(fault.cause == "the quantized graph has no such op" for fault in found)


def test_an_empty_file_is_broken(tmp_path: Path) -> None:
    (tmp_path / "model.espdl").touch()
    assert [each.rule for each in check_legality(tmp_path / "model.espdl", "c").faults] == ["file"]


Limit = Mapping[str, Any]


def _attribute(op_type: str, limit: Limit) -> tuple[ChipModel, ChipModel]:
    name, value = limit["attribute"], limit["allowed"][0]
    other = value + 7 if isinstance(value, int) else "something_else"
    given: tuple[dict[str, Any], dict[str, Any]] = {name: other}, {name: value}
    first, second = (alone(op_type, **attributes) for attributes in given)
    return first, second


def _shapes(broken: Any, whole: Any) -> Callable[[str, Limit], tuple[ChipModel, ChipModel]]:
    def make(op_type: str, limit: Limit) -> tuple[ChipModel, ChipModel]:
        shapes = [shape(op_type, limit) if callable(shape) else shape for shape in (broken, whole)]
        first, second = (alone(op_type, *_states(op_type, shape)) for shape in shapes)
        return first, second

    return make


def _states(op_type: str, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    return (tensor("x", shape=shape),)


def _batch(op_type: str, size: int) -> tuple[int, ...]:
    return (4, size, 8) if op_type in ("GRU", "LSTM") else (size, 4, 8)


def _broadcast(op_type: str, limit: Limit) -> tuple[ChipModel, ChipModel]:
    large = alone(op_type, tensor("x", shape=(2, 3, 4, 5, 6)), tensor("z", shape=(2, 1, 4, 1, 6)))
    return large, alone(op_type, tensor("x"), tensor("z"))


def _exponents(op_type: str, limit: Limit) -> tuple[ChipModel, ChipModel]:
    first, second = (alone(op_type, outputs=(tensor("y", each),)) for each in (-5, -4))
    return first, second


def _clip(op_type: str, limit: Limit) -> tuple[ChipModel, ChipModel]:
    first, second = (
        alone(
            op_type,
            tensor("x", dtype="int16"),
            constants={"low": constant("low", each, (1,), "int16")},
            quant_type="S16",
        )
        for each in (-3, -4)
    )
    return first, second


def _state(op_type: str, limit: Limit) -> tuple[ChipModel, ChipModel]:
    source = tensor("x", shape=(4, 1, 8))
    ends: tuple[Tensor, ...] = tensor("y", shape=(4, 1, 8)), tensor("h", shape=(1, 1, 8))
    if op_type == "LSTM":
        ends += (tensor("c", -8, (1, 1, 8), "int16"),)
    return alone(op_type, source, outputs=ends[:-1]), alone(op_type, source, outputs=ends)


MAKERS: dict[str, Callable[[str, Limit], tuple[ChipModel, ChipModel]]] = {
    "attribute": _attribute,
    "groups": lambda op_type, _: (alone(op_type, group=4), alone(op_type, group=1)),
    "dimensions": _shapes(
        lambda _, limit: (1,) * (max(limit["dimensions"]) + 1),
        lambda _, limit: (1,) * limit["dimensions"][0],
    ),
    "samples": _shapes(
        lambda op_type, _: _batch(op_type, 3), lambda op_type, _: _batch(op_type, 1)
    ),
    "broadcast_dimensions": _broadcast,
    "equal_exponents": _exponents,
    "limits_as_input": _clip,
    "depth_first": lambda op_type, _: (
        alone(op_type, tensor("x", shape=(1, 4, 4, 16)), blocksize=2, mode="DCR"),
        alone(op_type, tensor("x", shape=(1, 4, 4, 16)), blocksize=2, mode="CRD"),
    ),
    "one_state": _state,
}

LIMITS = [
    pytest.param(entry.name, limit, kind, id=f"{entry.name}-{limit.get('attribute', kind)}")
    for entry in op_table().ops.values()
    for limit in entry.limits
    for kind in _LIMITS
    if kind in limit
]


def test_every_limit_of_an_op_has_a_function_and_an_example() -> None:
    assert len(LIMITS) == sum(len(entry.limits) for entry in op_table().ops.values())
    assert set(MAKERS) == set(_LIMITS)


@pytest.mark.parametrize(("op_type", "limit", "kind"), LIMITS)
def test_a_limit_of_an_op_is_broken_by_an_example(op_type: str, limit: Limit, kind: str) -> None:
    def causes(model: ChipModel) -> list[str]:
        check = _LIMITS[kind]
        return list(check(model, model.nodes[0], limit, chip_facts("c")))

    broken, whole = MAKERS[kind](op_type, limit)
    assert causes(broken)
    assert not causes(whole)
    assert "restriction" in rules_broken(broken, "c")["fault"]
