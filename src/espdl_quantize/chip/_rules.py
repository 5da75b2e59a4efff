"""The rules that a model must obey to run on a chip, op by op.

Each rule names where it comes from: ESP-DL's sources, which are no part of this package (their
paths begin with ``dl/``), or what esp-ppq's exporter checks, packs and says in its comments. What
holds of single ops is in ``ops.json``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from espdl_quantize.chip._facts import (
    COMPARISONS,
    CONVERTS,
    MOVES,
    RAW_SUMS,
    SHARES_INPUT,
    SUMS,
    WIDTHS,
    ChipFacts,
)
from espdl_quantize.chip._model import ChipModel, Node, Tensor
from espdl_quantize.chip.restrictions import (
    OffScale,
    later,
    loadable,
    no_such_width,
    restriction,
)

_REGISTER = {"int8": 32, "int16": 64}
"""Bits of the integer that is shifted right; C (ISO/IEC 9899, 6.5.7) has no shift by as many."""
_EXPONENT_LIMIT = 30
"""An activation's exponent beyond this is no shift of a 32-bit integer."""


@dataclass(frozen=True)
class Fault:
    """A rule that an op breaks.

    Attributes:
        op: its name; empty where it is the model as a whole.
        op_type: which kernel it calls.
        rule: the rule's name.
        cause: what was found and what is expected.
    """

    op: str
    op_type: str
    rule: str
    cause: str


Rule = Callable[[ChipModel, Node, ChipFacts], Iterator[str]]


def examine(
    model: ChipModel, facts: ChipFacts, *, from_elsewhere: bool = False
) -> tuple[list[Fault], list[Fault]]:
    """Return every rule that a model breaks, and its doubts, in the order of its ops.

    Args:
        model: the file.
        facts: its chip.
        from_elsewhere: no quantized graph is at hand to be equal to. What makes numbers come out a
            power of two off is a doubt then: such files are published, and run.
    """
    faults: list[Fault] = []
    doubts: list[Fault] = []
    for node in model.nodes:
        for name, rule in RULES.items():
            for cause in _causes(rule, model, node, facts):
                lenient = from_elsewhere and isinstance(cause, OffScale)
                found = Fault(node.name, node.op_type, name, str(cause))
                (doubts if lenient else faults).append(found)
        for name, rule in DOUBTS.items():
            causes = _causes(rule, model, node, facts)
            doubts += [Fault(node.name, node.op_type, name, cause) for cause in causes]
    return faults + [Fault("", "", "order", cause) for cause in _disorder(model)], doubts


def _causes(rule: Rule, model: ChipModel, node: Node, facts: ChipFacts) -> list[str]:
    try:
        return list(rule(model, node, facts))
    except (TypeError, ValueError, IndexError, KeyError, OverflowError, ZeroDivisionError) as error:
        # Only a damaged file has too few inputs, or a text where a number belongs.
        return [f"its inputs, outputs and attributes do not fit together: {error}"]


def _disorder(model: ChipModel) -> Iterator[str]:
    """The chip runs the nodes in the file's order (``Graph.node`` of the FlatBuffer's schema)."""
    known = {*model.inputs, *model.constants, ""}
    for node in model.nodes:
        for name in node.inputs:
            if name not in known:
                yield f"op {node.name!r} reads {name!r} before anything has written it"
        known.update(node.outputs)
    for name in model.outputs:
        if name not in known:
            yield f"nothing writes the output {name!r}"
    if not model.nodes or not model.outputs:
        yield "the model has no op or no output"


def _width(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """``InsertQuantTypePattern`` chooses one type for an op's kernel; its tensors must have it, and
    ESP-DL a kernel for it. What goes by its tensors' own types does not read it."""
    if node.width not in (*WIDTHS, "F32"):
        yield f"its quant_type is {node.width!r}, ESP-DL has {', '.join((*WIDTHS, 'F32'))}"
        return
    yield from no_such_width(model, node, facts)
    if node.width == "F32":
        integers = [tensor.name for tensor in _activations(model, node) if tensor.is_integer]
        if integers and node.op_type not in CONVERTS | SHARES_INPUT | {"Softmax", "LogSoftmax"}:
            yield f"it computes in float, and {integers[0]!r} is integer"
        return
    if node.op_type not in SUMS | MOVES | {"Add", "Sub", "Mul", "Relu", "Clip", "AveragePool"}:
        return
    wanted, weights = WIDTHS[node.width]
    for tensor in _activations(model, node):
        if tensor.dtype != wanted and tensor.dtype in ("int8", "int16", "float32"):
            yield f"it is {node.width}, and {tensor.name!r} is {tensor.dtype}, expected {wanted}"
    weight = _constant(model, node, 1) if node.op_type in SUMS else None
    if weight is not None and weight.dtype != weights:
        yield f"it is {node.width}, and its weight is {weight.dtype}, expected {weights}"


def _mixed(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """``_is_w8a16_mixed_precision_op``: three ops, and no depthwise Conv."""
    if node.width == "W8A16" and (node.op_type not in SUMS or _group(node) != 1):
        group = f" with {_group(node)} groups" if node.op_type == "Conv" else ""
        yield f"ESP-DL has no W8A16 kernel for {node.op_type}{group}"


def _exponents(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """One exponent per activation; per channel only weights and biases, and only where the
    chip's quantizer has them so (``_P4_PLATFORMS`` in ``EspdlQuantizer.py``)."""
    if node.width == "F32":
        return
    for tensor in _activations(model, node):
        if not tensor.is_integer:
            continue
        if len(tensor.exponents) != 1:
            yield f"{tensor.name!r} has {len(tensor.exponents)} exponents, expected 1"
        elif abs(tensor.exponent) > _EXPONENT_LIMIT:
            exponent = tensor.exponent
            yield f"{tensor.name!r} has the exponent {exponent}, the limit is {_EXPONENT_LIMIT}"
    for place in range(1, len(node.inputs)):
        constant = _constant(model, node, place) if node.op_type in SUMS else None
        if constant is None or len(constant.exponents) == 1:
            continue
        count, channels = len(constant.exponents), _channels(node, _constant(model, node, 1))
        if not facts.per_channel or node.op_type == "MatMul":
            yield f"{constant.name!r} has {count} exponents, {facts.name} takes 1"
        elif count != channels:
            yield f"{constant.name!r} has {count} exponents for {channels} channels"


def _shift(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """Products are shifted right into the output. The vector units' kernels take the count of bits
    as it is: a left shift makes 30 of -1 on the ESP32-S3, and 63 of it on the ESP32-P4 in the
    channels beyond a multiple of 16 (dl/base/isa). The C kernels shift left, too
    (``shift_and_round`` in dl/tool/src/dl_tool.cpp)."""
    shifts, _ = _shifts(model, node)
    low = [
        channel
        for channel, shift in enumerate(shifts)
        if shift < 0 and _has_numbers(model, node, channel, len(shifts))
    ]
    if not low or not facts.vector_unit:
        return
    if len(shifts) == 1:
        yield f"its output exponent is below the sum of its inputs': a shift by {shifts[0]}"
        return
    places = ", ".join(map(str, low[:5])) + (", ..." if len(low) > 5 else "")
    cut, whole = _cut_off(model, node, {channel: -shifts[channel] for channel in low}, len(shifts))
    yield (
        f"{len(low)} of {len(shifts)} channels ({places}) would be shifted left by up to "
        f"{-min(shifts[channel] for channel in low)} bits, since their weights are large against "
        f"the output: {facts.name} shifts right alone, and their values are garbage. A lower "
        f"exponent of these weights would cut off {cut} of {whole}"
    )


def _cut_off(model: ChipModel, node: Node, bits: dict[int, int], channels: int) -> tuple[int, int]:
    """Return how many weights of channels do not fit with as many bits more, and how many all."""
    weight = _constant(model, node, 1)
    if weight is None or weight.data is None:
        return 0, 0
    cut = whole = 0
    limit = 127 if weight.dtype == "int8" else 32767
    for channel, more in bits.items():
        numbers = _of_channel(node, weight, channel, channels)
        whole += len(numbers)
        # One below zero more fits than above.
        cut += int((numbers > limit >> more).sum() + (numbers < (-limit - 1) >> more).sum())
    return cut, whole


def _deep_shift(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """C kernels shift in 64 bits, so that nothing is left of the sum, as in the simulation
    (``shift_and_round``). What a vector unit makes of such a count is not stated, and a published
    model has it."""
    shifts, dtype = _shifts(model, node)
    bits = _REGISTER.get(dtype, 0)
    for channel, shift in enumerate(shifts):
        if facts.vector_unit and shift >= bits and _has_numbers(model, node, channel, len(shifts)):
            yield (
                f"a shift by {shift} (channel {channel}), the sum has {bits} bits: nothing is left "
                "of it, and no source says what the vector unit makes of such a count"
            )
            break


def _shifts(model: ChipModel, node: Node) -> tuple[list[int], str]:
    """Return the shift of each channel and the output's type; nothing where none is done."""
    if node.op_type not in SUMS | {"Mul"} or node.width == "F32" or len(node.inputs) < 2:
        return [], ""
    first, second, out = (
        model.tensor(name) for name in (node.inputs[0], node.inputs[1], node.outputs[0])
    )
    if first is None or second is None or out is None or not (first.is_integer and out.is_integer):
        return [], ""
    return [out.exponent - first.exponent - exponent for exponent in second.exponents], out.dtype


def _bias(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """A bias is added to the sum: same exponent, and as wide as the accumulator (``bias_bits``)."""
    bias = _constant(model, node, 2) if node.op_type in ("Conv", "Gemm") else None
    first, weight = model.tensor(node.inputs[0]), _constant(model, node, 1)
    if bias is None or first is None or weight is None or not first.is_integer:
        return
    wanted = tuple(first.exponent + exponent for exponent in weight.exponents)
    if bias.exponents != wanted:
        pairs = [*zip(bias.exponents, wanted, strict=False), (len(bias.exponents), len(wanted))]
        exponent, due = next(pair for pair in pairs if pair[0] != pair[1])
        yield f"its bias has the exponent {exponent}, its sum {due}"
    bits = facts.accumulator_bits[first.dtype]
    holder = "int32" if bits <= 32 else "int64"
    if bias.dtype != holder:
        yield f"its bias is {bias.dtype}, expected {holder}"
    elif bias.data is not None and len(bias.data):
        worst = max(int(bias.data.max()), -int(bias.data.min()) - 1)
        if worst >= 1 << (bits - 1):
            yield f"its bias needs more than the {bits} bits of the accumulator"


def _share(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """``PASSIVE_OPERATIONS`` in ``esp_ppq/core/common.py``: inputs and outputs share the scale."""
    if node.op_type not in MOVES or node.width == "F32":
        return
    sharing = [tensor for tensor in _activations(model, node) if tensor.is_integer]
    if sharing and len({tensor.exponents for tensor in sharing}) > 1:
        exponents = ", ".join(f"{tensor.name!r} {tensor.exponent}" for tensor in sharing[:4])
        cause = f"it hands integers on as they are, and their exponents differ: {exponents}"
        yield OffScale(cause) if len(_inputs(model, node)) == 1 else cause


def _one_exponent(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """ESP-DL's Add, Sub and comparisons read no exponent: they add, subtract and compare raw
    integers (its C sources, version 3.3.9, run on a PC against exported models)."""
    if node.op_type not in RAW_SUMS | COMPARISONS or node.width == "F32":
        return
    names = node.inputs if node.op_type in COMPARISONS else (*node.inputs, *node.outputs)
    tensors = [model.tensor(name) for name in dict.fromkeys(names) if name]
    sharing = [tensor for tensor in tensors if tensor is not None and tensor.is_integer]
    if len({tensor.exponents for tensor in sharing}) > 1:
        exponents = ", ".join(f"{tensor.name!r} {_shown(tensor.exponents)}" for tensor in sharing)
        verb = "compares" if node.op_type in COMPARISONS else "adds"
        whose = "inputs" if node.op_type in COMPARISONS else "inputs and output"
        cause = (
            f"ESP-DL {verb} raw integers, so that its {whose} need one exponent, and have "
            f"{exponents}"
        )
        # Equal inputs are added rightly, and the sum is taken for another multiple of itself.
        among = {tensor.exponents for tensor in _inputs(model, node)}
        yield OffScale(cause) if len(among) == 1 else cause


def _shown(exponents: tuple[int, ...]) -> str:
    return str(exponents[0]) if len(exponents) == 1 else str(exponents)


def _table(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """``AddLUTPattern`` and ``HardwareEmulator``: an entry per int8, or per step of int16 and one
    more, in the output's type and exponent."""
    name = node.attributes.get("lut")
    if name is None:
        if node.op_type == "LUT":
            yield "it has no lookup table"
        return
    table, out = model.constants.get(name), model.tensor(node.outputs[0])
    if table is None or table.data is None:
        yield f"its lookup table {name!r} is missing"
    elif out is not None and (table.dtype, table.exponents) != (out.dtype, out.exponents):
        yield (
            f"its table is {table.dtype} with exponent {table.exponents}, its output {out.dtype} "
            f"with {out.exponents}"
        )
    elif table.dtype == "int8" and len(table.data) != 256:
        yield f"its table has {len(table.data)} entries, expected 256"
    elif table.dtype == "int16" and (len(table.data) < 2 or 65536 % (len(table.data) - 1)):
        yield f"its table has {len(table.data)} entries, expected 65536 / step + 1"


def _weights(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """``ResetParamLayoutPattern``: [H, W, C, N], for a depthwise Conv [H, W, N, C]."""
    weight = _constant(model, node, 1) if node.op_type in ("Conv", "Gemm") else None
    if weight is None or weight.shape is None:
        return
    first, out = model.tensor(node.inputs[0]), model.tensor(node.outputs[0])
    if first is None or out is None or not first.shape or not out.shape:
        return
    if len(weight.shape) not in (3, 4):
        yield f"its weight has {len(weight.shape)} dimensions, expected 3 or 4"
        return
    channels = _channels(node, weight)
    taken = (math.prod(weight.shape[-2:]) // channels if channels else 0) * _group(node)
    if (first.shape[-1], out.shape[-1]) != (taken, channels):
        yield (
            f"its weight takes {taken} channels to {channels}, its tensors have "
            f"{first.shape[-1]} and {out.shape[-1]}"
        )


def _streaming(model: ChipModel, node: Node, facts: ChipFacts) -> Iterator[str]:
    """ESP-DL 3.3.9's StreamingCache puts the bytes of its input behind those that it kept of
    earlier calls: what it puts out is longer by ``window_size`` - 1 on ``frame_axis``, and whole
    only where that is the first axis with more than one step (``dl_module_streaming_cache.hpp``).
    What reads it may not pad on that axis, since it would pad between two calls."""
    if node.op_type != "StreamingCache":
        return
    first, out = model.tensor(node.inputs[0]), model.tensor(node.outputs[0])
    window, axis = node.attributes.get("window_size", 1), node.attributes.get("frame_axis", 1)
    if first is None or out is None or first.shape is None or out.shape is None:
        yield "it has no input or no output of a known shape"
        return
    if not isinstance(window, int) or not isinstance(axis, int) or window < 1:
        yield f"its window_size is {window!r} and its frame_axis {axis!r}"
        return
    if not 0 <= axis < len(first.shape):
        yield f"its frame_axis is {axis}, its input has {len(first.shape)} axes"
        return
    longer = tuple(size + (window - 1) * (place == axis) for place, size in enumerate(first.shape))
    if out.shape != longer:
        yield f"it makes {out.shape} of {first.shape}, expected {longer}: window_size is {window}"
    if math.prod(first.shape[:axis]) != 1:
        yield (
            f"it joins bytes, and {first.name!r} of the shape {first.shape} does not lie frame by "
            f"frame: an axis before {axis} has more than one step"
        )
    if first.dtype != out.dtype:
        yield f"{first.name!r} is {first.dtype}, {out.name!r} is {out.dtype}"
    for reader in model.nodes:
        pads = reader.attributes.get("pads", ())
        half = len(pads) // 2
        if out.name not in reader.inputs or not 0 < axis <= half:
            continue
        if pads[axis - 1] or pads[half + axis - 1]:
            yield f"what reads it, {reader.name!r}, pads that axis by {pads}"


RULES: dict[str, Rule] = {
    "op type": loadable,
    "width": _width,
    "restriction": restriction,
    "mixed width": _mixed,
    "exponents": _exponents,
    "shift": _shift,
    "bias": _bias,
    "shared exponent": _share,
    "one exponent": _one_exponent,
    "lookup table": _table,
    "weights": _weights,
    "streaming": _streaming,
}

DOUBTS: dict[str, Rule] = {"later version": later, "deep shift": _deep_shift}
"""What may be wrong on a chip, and no source says so; told, and no reason to refuse a model."""


def _activations(model: ChipModel, node: Node) -> list[Tensor]:
    names = dict.fromkeys((*node.inputs, *node.outputs))
    return [model.values[name] for name in names if name and name in model.values]


def _inputs(model: ChipModel, node: Node) -> list[Tensor]:
    tensors = [model.tensor(name) for name in dict.fromkeys(node.inputs) if name]
    return [tensor for tensor in tensors if tensor is not None and tensor.is_integer]


def _constant(model: ChipModel, node: Node, place: int) -> Tensor | None:
    return model.constants.get(node.inputs[place]) if place < len(node.inputs) else None


def _group(node: Node) -> int:
    group: Any = node.attributes.get("group", 1)
    return int(group)


def _channels(node: Node, weight: Tensor | None) -> int:
    """Return the output channels, which a grouped Conv has one dimension further in front."""
    if weight is None or not weight.shape:
        return 0
    return weight.shape[-2] if _group(node) > 1 else weight.shape[-1]


def _has_numbers(model: ChipModel, node: Node, channel: int, channels: int) -> bool:
    """Whether a channel holds anything but zeros: no shift makes those wrong."""
    bias = _constant(model, node, 2)
    if bias is not None and bias.data is not None:
        numbers = bias.data[channel : channel + 1] if len(bias.data) == channels else bias.data
        if numbers.any():
            return True
    weight = _constant(model, node, 1)
    if weight is None or weight.data is None:
        return True
    return bool(_of_channel(node, weight, channel, channels).any())


def _of_channel(node: Node, weight: Tensor, channel: int, channels: int) -> Any:
    """Return the numbers of one output channel, or all where there is one exponent for all."""
    if channels == 1 or _channels(node, weight) != channels or node.op_type == "MatMul":
        return weight.data
    aligned = 16 if node.width == "S8" else 8
    blocked = channels // aligned * aligned
    per_channel = len(weight.data) // channels
    if channel < blocked:
        block, place = divmod(channel, aligned)
        start = block * aligned * per_channel
        return weight.data[start : start + aligned * per_channel].reshape(-1, aligned)[:, place]
    rest = weight.data[blocked * per_channel :]
    if _group(node) > 1:
        return rest.reshape(-1, channels - blocked)[:, channel - blocked]
    return rest.reshape(channels - blocked, -1)[channel - blocked]
