"""What one op asks of the chip: vector instructions, calls, elements and bytes, by kind.

Each kind of work has one constant per chip (``constants.json``): so many cycles or nanoseconds for
one of it. What is counted follows ESP-DL's kernels: a Conv goes over its output pixels, and for
each pixel over groups of as many output channels as a vector has lanes; for every group it reads
all of the group's weights again. So weights that do not fit into the cache are read from PSRAM or
flash once per output pixel, and cost far more than the multiplications do.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from espdl_quantize.chip._facts import (
    CONVERTS,
    COPIES,
    FLOAT,
    ONE_BY_ONE,
    SHARES_INPUT,
    SUMS,
    TABLED,
)
from espdl_quantize.chip._model import ChipModel, Node, Tensor

Work = dict[str, float]
"""How much of each kind."""


@dataclass(frozen=True)
class Caches:
    """A chip's caches, as the published measurements had them.

    Attributes:
        data: bytes in front of flash and PSRAM.
        inner: bytes of a cache in front of that one; 0 where there is none.
    """

    data: int
    inner: int = 0


@dataclass(frozen=True)
class Operand:
    """A tensor that an op reads or writes.

    Attributes:
        bits: of one number.
        shape: as in the file.
        constant: whether the file holds its numbers.
        internal: whether it lies in internal RAM, where no cache is needed.
    """

    bits: int
    shape: tuple[int, ...]
    constant: bool = False
    internal: bool = False

    @property
    def count(self) -> int:
        """Return how many numbers it has."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Return its bytes."""
        return self.count * self.bits // 8


@dataclass(frozen=True)
class Operation:
    """An op, as far as its cost goes.

    Attributes:
        op_type: which kernel.
        width: of the kernel: S8, S16, W8A16 or F32.
        inputs: those that are there.
        outputs: all.
        kernel: height and width of the window; empty where it has none.
        grouped: whether a Conv is depthwise.
        dilation: of the rows.
        table: whether a lookup table takes the place of computing in float.
    """

    op_type: str
    width: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    kernel: tuple[int, ...] = ()
    grouped: bool = False
    dilation: int = 1
    table: bool = True

    @property
    def weights(self) -> Operand | None:
        """Return the constant that a Conv, Gemm or MatMul multiplies by."""
        if self.op_type in SUMS and len(self.inputs) > 1:
            return self.inputs[1] if self.inputs[1].constant else None
        return None

    @property
    def macs(self) -> int:
        """Return its multiplications."""
        if not self.outputs or len(self.inputs) < 2:
            return 0
        count = self.outputs[0].count
        if self.op_type == "Conv":
            taps = math.prod(self.kernel) or 1
            return count * taps * (1 if self.grouped else self.inputs[0].shape[-1])
        if self.op_type in ("Gemm", "MatMul"):
            return count * (self.inputs[0].shape[-1] if self.inputs[0].shape else 1)
        return 0


_BITS = {"int8": 8, "uint8": 8, "bool": 8, "int16": 16, "uint16": 16, "float64": 64, "int64": 64}


def _operand(tensor: Tensor | None, *, constant: bool, internal: bool) -> Operand | None:
    if tensor is None or tensor.shape is None:
        return None
    return Operand(_BITS.get(tensor.dtype, 32), tensor.shape, constant, internal)


def operation_of(node: Node, model: ChipModel, internal: Container[str] = ()) -> Operation:
    """Describe one op of a file.

    Args:
        node: the op.
        model: the file.
        internal: names of the activations in internal RAM.
    """
    operands = [
        _operand(model.tensor(name), constant=name in model.constants, internal=name in internal)
        for name in node.inputs
        if name
    ]
    outputs = [
        _operand(model.values.get(name), constant=False, internal=name in internal)
        for name in node.outputs
    ]
    inputs = tuple(operand for operand in operands if operand is not None)
    attributes = node.attributes
    kernel = tuple(attributes.get("kernel_shape") or ())
    if not kernel and node.op_type == "Conv" and len(inputs) > 1:
        kernel = inputs[1].shape[:-2]
    dilations = attributes.get("dilations") or (1,)
    return Operation(
        op_type=node.op_type,
        width=node.width,
        inputs=inputs,
        outputs=tuple(operand for operand in outputs if operand is not None),
        kernel=kernel,
        grouped=int(attributes.get("group") or 1) > 1,
        dilation=int(dilations[0]),
        table="lut" in attributes or node.op_type in ("LUT", "Gelu"),
    )


def operation_of_row(row: Mapping[str, Any]) -> Operation:
    """Describe one op of the published figures."""

    def operand(entry: list[Any]) -> Operand:
        return Operand(
            _BITS.get(entry[0], 32), tuple(entry[1]), bool(entry[2]) if len(entry) > 2 else False
        )

    inputs = tuple(map(operand, row["in"]))
    kernel = tuple(row.get("kernel_shape") or ())
    if not kernel and row["type"] == "Conv" and len(inputs) > 1:
        kernel = inputs[1].shape[:-2]
    return Operation(
        op_type=row["type"],
        width=row["width"],
        inputs=inputs,
        outputs=tuple(map(operand, row["out"])),
        kernel=kernel,
        grouped=int(row.get("group") or 1) > 1,
        dilation=int((row.get("dilations") or (1,))[0]),
        # The files of these figures hold tables for every 8-bit function of one value.
        table=row["width"] == "S8" or row["type"] == "LUT",
    )


KINDS = {
    "mac8": "vector instructions of a Conv or Gemm, int8, channels multiples of 16",
    "mac8_ragged": "the same where a channel count is no multiple of 16",
    "mac16": "vector instructions of a Conv or Gemm, int16, channels multiples of 8",
    "mac16_ragged": "the same where a channel count is no multiple of 8",
    "group": "groups of output channels begun, once per output pixel",
    "pixel": "output pixels of a Conv, Gemm or pool",
    "depthwise": "vector instructions of a depthwise Conv",
    "vector": "vector instructions of element-wise ops, tables and pools",
    "scalar": "elements that a kernel in C handles one at a time",
    "permute": "elements that a transposition moves one at a time",
    "float": "elements that are computed in float",
    "node": "ops",
    "moved": "bytes of activations and parameters through the cache",
    "inner": "bytes of weights read again from the outer cache",
    "psram": "bytes of weights read again from PSRAM",
    "flash": "bytes of weights read from flash",
}
"""The kinds of work, each with a constant per chip."""


def work_of(operation: Operation, caches: Caches, *, weights_in_flash: bool = False) -> Work:
    """Count an op's work.

    Args:
        operation: the op.
        caches: the chip's.
        weights_in_flash: whether the runtime reads the weights where they are instead of copying
            them into PSRAM when it loads the model.
    """
    work: Work = dict.fromkeys(KINDS, 0.0)
    work["node"] = 1.0
    if not operation.outputs or operation.op_type in SHARES_INPUT:
        return work
    if operation.op_type in SUMS and len(operation.inputs) > 1:
        _products(operation, caches, work, in_flash=weights_in_flash)
    else:
        _elements(operation, work)
    read = sum(
        operand.size for operand in operation.inputs if not (operand.constant or operand.internal)
    )
    written = sum(operand.size for operand in operation.outputs if not operand.internal)
    # A line that is written is first read into the cache and later written back.
    work["moved"] += (read + 2 * written) * _share_spilled(read + written, caches.data)
    return work


def _products(operation: Operation, caches: Caches, work: Work, *, in_flash: bool) -> None:
    source, weights, output = operation.inputs[0], operation.inputs[1], operation.outputs[0]
    int8 = operation.width == "S8"
    lanes = 16 if int8 else 8
    channels_in = source.shape[-1] if source.shape else 1
    channels_out = output.shape[-1] if output.shape else 1
    pixels = output.count / max(channels_out, 1)
    taps = math.prod(operation.kernel) or 1
    batch = 1
    if operation.op_type == "MatMul" and len(weights.shape) > 2:
        batch = math.prod(weights.shape[:-2])
    if operation.grouped:
        groups = -(-channels_out // lanes)
        work["depthwise"] += pixels * taps * groups
        work["group"] += pixels * groups
        work["pixel"] += pixels
        per_pixel = 0.0
    else:
        groups, rest = divmod(channels_out, lanes)
        ragged = rest or channels_in % lanes
        steps = taps * (groups * channels_in + rest * -(-channels_in // lanes))
        kind = ("mac8" if int8 else "mac16") + ("_ragged" if ragged else "")
        work[kind] += pixels * steps
        work["group"] += pixels * (groups + rest)
        work["pixel"] += pixels
        per_pixel = weights.size / batch
    again = per_pixel * max(pixels - batch, 0)
    misses = _share_missed(per_pixel, caches.data)
    where = "flash" if in_flash and weights.constant else "psram"
    work[where] += again * misses
    if caches.inner:
        work["inner"] += again * (1 - misses) * _share_missed(per_pixel, caches.inner)
    work["flash" if where == "flash" else "moved"] += weights.size


_OF_A_CACHE = 0.9
"""What weights can have of a cache; inputs, outputs and the stack take the rest."""


def _share_missed(size: float, cache: int) -> float:
    """Return how much of what is read round and round is gone when it is read again.

    In a cache that replaces lines at random, a share m of the reads misses where
    m = 1 - exp(-m * size / cache). Nothing misses below the cache's size, a third at 1.2 times it,
    four fifths at twice.
    """
    ratio = size / (_OF_A_CACHE * cache)
    if ratio <= 1:
        return 0.0
    low, high = 1e-9, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - math.exp(-middle * ratio) > middle else (low, middle)
    return high


def _share_spilled(size: int, cache: int) -> float:
    """Return how much of an op's inputs and outputs does not stay in the cache between ops."""
    return max(1 - cache / size, 0.0) if size else 0.0


def _elements(operation: Operation, work: Work) -> None:
    op_type, output = operation.op_type, operation.outputs[0]
    count = sum(operand.count for operand in operation.outputs)
    lanes = {"S8": 16, "F32": 1}.get(operation.width, 8)
    whole = max([operand.count for operand in operation.inputs if not operand.constant], default=0)
    tabled = operation.table and op_type in TABLED
    if op_type in COPIES:
        return
    if op_type in CONVERTS:
        # Its width in the file is not looked at: the tensors' types choose the kernel.
        bits = max(
            operand.bits
            for operand in (*operation.inputs, *operation.outputs)
            if not operand.constant
        )
        work["vector" if bits <= 16 else "scalar"] += count / (128 // bits if bits <= 16 else 1)
        return
    if op_type in ("MaxPool", "AveragePool", "GlobalAveragePool"):
        taps = math.prod(operation.kernel) or whole / max(output.count, 1)
        channels = output.shape[-1] if output.shape else 1
        pixels = output.count / max(channels, 1)
        work["vector"] += pixels * taps * -(-channels // lanes)
        work["pixel"] += pixels
    elif op_type in ("GRU", "LSTM"):
        steps = operation.inputs[0].shape[0] if operation.inputs[0].shape else 1
        products = sum(operand.count for operand in operation.inputs[1:] if operand.constant)
        work["vector"] += steps * products / lanes
        work["float"] += 4 * count
    elif operation.width == "F32" or (op_type in FLOAT and not tabled):
        work["float"] += max(whole, count)
    elif op_type == "Transpose":
        work["permute"] += count
    elif op_type.startswith("Reduce") or op_type in ONE_BY_ONE:
        work["scalar"] += max(whole, count)
    else:
        work["vector"] += count / lanes
