"""Rules that come of the table of ops: what a kernel of ESP-DL cannot do.

Each limit of ``ops.json`` has a function here, by its name there; the sources are in the table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from espdl_quantize.chip._facts import ChipFacts
from espdl_quantize.chip._model import ChipModel, Node, Tensor
from espdl_quantize.targets.ops import is_looked_at, op_table, version_text

_WIDTHS = {"S8": "int8", "S16": "int16", "W8A16": "int16", "F32": "float32"}
_WIDTH_NOT_READ = frozenset(
    {
        "DequantizeLinear",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "RequantizeLinear",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
    }
)
"""Ops whose kernels go by their tensors' types, or copy bytes: quant_type does not matter."""

Limit = Mapping[str, Any]


class OffScale(str):
    """A cause that makes numbers come out a power of two too large or small, and no worse.

    Whoever published such a file has seen it run; what was scored here would not be what runs.
    """

    __slots__ = ()


def loadable(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """``register_dl_modules`` of ESP-DL: an op of another type stops the model at load."""
    table = op_table()
    entry = table.ops.get(node.op_type)
    if entry is None:
        if node.op_type not in table.later:
            yield f"ESP-DL has no kernel for {node.op_type}: a model with it does not load"
        elif is_looked_at(facts.esp_dl):
            yield (
                f"ESP-DL {_version(facts)} has no kernel for {node.op_type}, which "
                f"{table.later[node.op_type].made_by} makes for a later one"
            )
    elif facts.esp_dl is not None and facts.esp_dl < entry.since:
        yield (
            f"{node.op_type} needs ESP-DL {version_text(entry.since)}, and {_version(facts)} is "
            "named"
        )


def later(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """What esp-ppq makes on purpose, and no ESP-DL that was looked at has."""
    if is_looked_at(facts.esp_dl):
        return
    table = op_table()
    for feature in (node.op_type, node.width):
        if feature in table.later:
            known = table.later[feature]
            yield (
                f"{feature} needs an ESP-DL later than {version_text(table.version)}, the newest "
                f"that was looked at ({known.made_by}); the way out: {known.way_out}"
            )


def no_such_width(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """The operator table of ESP-DL, and the switch over ``quant_type`` in each module."""
    entry = op_table().ops.get(node.op_type)
    width = _WIDTHS.get(node.width)
    if entry is None or width is None or node.op_type in _WIDTH_NOT_READ:
        return
    if width not in entry.widths:
        yield f"its kernel has no {width}, it has {' and '.join(entry.widths)}"
    elif node.width == "W8A16" and is_looked_at(facts.esp_dl):
        yield f"ESP-DL {_version(facts)} has no W8A16, which {op_table().later['W8A16'].made_by}"


def restriction(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """The limits of an op, as the table of ops has them."""
    entry = op_table().ops.get(node.op_type)
    if entry is None or _has_table(node):
        return
    for limit in entry.limits:
        for name, check in _LIMITS.items():
            if name in limit:
                yield from check(model, node, limit, facts)


def _version(facts: ChipFacts) -> str:
    return version_text(facts.esp_dl) if facts.esp_dl else ""


def _has_table(node: Node) -> bool:
    """An op of one value becomes a table, whatever it was: ``deserialize`` of each module."""
    return bool(node.attributes.get("lut")) and node.width == "S8"


def _attribute(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    name = limit["attribute"]
    value = node.attributes.get(name, limit.get("default", limit["allowed"][0]))
    values = value if isinstance(value, tuple) else (value,)
    if all(each in limit["allowed"] for each in values):
        return
    if limit.get("unless") == "same size" and _rounds_nothing(model, node):
        return
    shown = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    allowed = " or ".join(map(str, limit["allowed"]))
    yield f"its {name} is {shown}, expected {allowed}: {limit['why']}"


def _rounds_nothing(model: ChipModel, node: Node) -> bool:
    """Whether a pool has the size that ESP-DL computes, which rounds down."""
    first, out = _shape(model, node.inputs[0]), _shape(model, node.outputs[0])
    window = node.attributes.get("kernel_shape", ())
    if first is None or out is None or not window or len(first) != len(window) + 2:
        return False
    axes = len(window)
    pads = tuple(node.attributes.get("pads", ())) or (0,) * 2 * axes
    strides = tuple(node.attributes.get("strides", ())) or (1,) * axes
    if len(pads) != 2 * axes or len(strides) != axes or min(strides) < 1 or len(out) != len(first):
        return False
    return all(
        out[1 + axis]
        == (first[1 + axis] + pads[axis] + pads[axes + axis] - window[axis]) // strides[axis] + 1
        for axis in range(axes)
    )


def _groups(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    group = int(node.attributes.get("group", 1))
    first, out = _shape(model, node.inputs[0]), _shape(model, node.outputs[0])
    if group == 1 or first is None or out is None:
        return
    if group != first[-1]:
        yield (
            f"it has {group} groups of {first[-1]} channels: ESP-DL runs every number of groups "
            "but 1 as depthwise, which gives wrong numbers"
        )
    elif out[-1] != first[-1]:
        yield (
            f"it is depthwise and makes {out[-1]} channels of {first[-1]}: ESP-DL's depthwise "
            "kernel makes as many as it reads"
        )


def _dimensions(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    shape = _shape(model, node.inputs[0])
    if shape is not None and len(shape) not in limit["dimensions"]:
        allowed = " or ".join(map(str, limit["dimensions"]))
        yield f"its input has {len(shape)} dimensions, its kernel takes {allowed}"


def _samples(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    shape = _shape(model, node.inputs[0])
    if shape is None or len(shape) < 3:
        return
    recurrent = node.op_type in ("GRU", "LSTM") and not node.attributes.get("layout", 0)
    batch = shape[1 if recurrent else 0]
    if batch != limit["samples"]:
        yield (
            f"its input {list(shape)} is a batch of {batch}: ESP-DL's kernel computes the first "
            "sample alone"
        )


def _broadcast(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    shapes = [_shape(model, name) for name in node.inputs[:2]]
    if len(shapes) != 2 or shapes[0] is None or shapes[1] is None:
        return
    if any(
        one != other and 1 not in (one, other)
        for one, other in zip(reversed(shapes[0]), reversed(shapes[1]), strict=False)
    ):
        yield (
            f"its inputs {list(shapes[0])} and {list(shapes[1])} do not fit each other: the one is "
            "laid out with its channels last, and the other as the model has it"
        )
        return
    count = merged_dimensions(shapes[0], shapes[1])
    if count > limit["broadcast_dimensions"]:
        yield (
            f"its inputs {list(shapes[0])} and {list(shapes[1])} come to {count} dimensions once "
            f"neighbours are joined, its kernel takes {limit['broadcast_dimensions']}"
        )


def merged_dimensions(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Return the dimensions that an element-wise kernel runs over.

    Neighbouring axes are one where both inputs have them, or the same input has neither
    (``get_elemwise_operation_args`` in ESP-DL's dl_base_elemwise.cpp).
    """
    rank = max(len(left), len(right))
    sizes = [
        (one, other)
        for one, other in zip(
            (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True
        )
        if (one, other) != (1, 1)
    ]
    kinds = [(one == other, one == 1, other == 1) for one, other in sizes]
    return 1 + sum(
        not any(one and other for one, other in zip(before, after, strict=True))
        for before, after in itertools.pairwise(kinds)
    )


def _equal_exponents(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    """The vector units' int8 kernels shift positives, too; the C kernel, which is int16's on the
    ESP32-P4, and the ESP32-S3's int16 kernel copy them (dl/base/dl_base_prelu.cpp, dl/base/isa)."""
    if node.width == "S8" and facts.vector_unit:
        return
    first, out = model.tensor(node.inputs[0]), model.tensor(node.outputs[0])
    if first is None or out is None or not (first.is_integer and out.is_integer):
        return
    if first.exponents != out.exponents:
        yield (
            f"ESP-DL copies the positive integers of a {node.op_type} as they are, so that its "
            f"input and output need one exponent, and have {first.exponent} and {out.exponent}"
        )


def _limits_as_input(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    first = model.tensor(node.inputs[0])
    if first is None or not first.is_integer:
        return
    for name in node.inputs[1:3]:
        bound = model.tensor(name) if name else None
        # Zero is zero in any scale.
        if bound is None or bound.exponents == first.exponents or _is_zero(bound):
            continue
        yield (
            f"its limit {name!r} has the exponent {bound.exponent}, its input {first.exponent}: "
            "ESP-DL compares raw integers"
        )


def _is_zero(tensor: Tensor) -> bool:
    return tensor.data is not None and len(tensor.data) > 0 and not tensor.data.any()


def _depth_first(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    """``depth_to_space_dcr`` takes the block's size for the number of output channels."""
    first, block = _shape(model, node.inputs[0]), int(node.attributes.get("blocksize", 1))
    if node.attributes.get("mode", "DCR") != "DCR" or first is None or block < 1:
        return
    channels = first[-1] // block**2
    if channels != block:
        yield (
            f"it makes {channels} channels with blocks of {block} in the mode DCR: ESP-DL's kernel "
            "puts them in wrong places unless both are equal. CRD, torch's pixel_shuffle, is right"
        )


def _one_state(model: ChipModel, node: Node, limit: Limit, facts: ChipFacts) -> Iterator[str]:
    """The modules read all of their outputs' descriptions, copy the hidden state as bytes, read it
    in the exponent of the last one, and stop at a cell of another type or exponent than the
    gates'."""
    outputs = [model.tensor(name) if name else None for name in node.outputs]
    wanted = 3 if node.op_type == "LSTM" else 2
    if len(outputs) < wanted or None in outputs[:wanted]:
        yield f"it has {sum(each is not None for each in outputs)} outputs, its kernel {wanted}"
        return
    if node.width == "F32":
        return
    gates = ("int16", (int(node.attributes.get("gate_exponent", -8)),))
    inputs = [model.tensor(name) if name else None for name in node.inputs] + [None] * 7
    hidden = [tensor for tensor in (*outputs[:2], inputs[5]) if tensor is not None]
    if len({(tensor.dtype, tensor.exponents) for tensor in hidden}) > 1:
        shown = ", ".join(f"{tensor.name!r} {tensor.dtype} {tensor.exponent}" for tensor in hidden)
        yield f"its hidden states need one type and exponent, and have {shown}"
    for tensor in (inputs[3], *((inputs[6], outputs[2]) if node.op_type == "LSTM" else ())):
        if tensor is not None and (tensor.dtype, tensor.exponents) != gates:
            yield (
                f"{tensor.name!r} is {tensor.dtype} with the exponent {tensor.exponent}, its gates "
                f"are int16 with {gates[1][0]}"
            )


_LIMITS: dict[str, Callable[[ChipModel, Node, Limit, ChipFacts], Iterator[str]]] = {
    "attribute": _attribute,
    "groups": _groups,
    "dimensions": _dimensions,
    "samples": _samples,
    "broadcast_dimensions": _broadcast,
    "equal_exponents": _equal_exponents,
    "limits_as_input": _limits_as_input,
    "depth_first": _depth_first,
    "one_state": _one_state,
}


def _shape(model: ChipModel, name: str) -> tuple[int, ...] | None:
    tensor = model.tensor(name)
    if tensor is None or not tensor.shape or math.prod(tensor.shape) == 0:
        return None
    return tensor.shape
