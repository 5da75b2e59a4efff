"""Reads an .espdl file back.

The file is a header of 16 bytes (the letters EDL2, a flag for encryption, the length of what
follows, four bytes of padding: ``save`` in ``esp_ppq/parser/espdl/helper.py``) and a FlatBuffer.
FlatBuffers' Python package verifies nothing, so every length is held against the file's size here
before anything is taken from it. Its offsets may lead many times to one place, so that all that is
read is held against it, too.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from espdl_quantize.chip._model import ChipModel, Node, Tensor
from espdl_quantize.core import EspdlQuantizeError, OutputFolderError
from espdl_quantize.ppq import espdl_tables

_HEADER = struct.Struct("<4sII4x")
_CHUNK = 16
"""Bytes of an ``AlignedBytes``, which raw data is a vector of."""
_MIB = 1 << 20
_LARGEST = 256 * _MIB
"""Bytes that are read: several times the flash that the largest of these chips takes."""
_MOST_AXES = 32
"""Of a shape; ONNX's tensors have a few."""
_OFTEN = 16
"""How often a byte of a file may be read, on average: its writer shares texts, and no more."""
_ITEM = 32
"""Bytes that a table or a text counts for beside what is read of it: it takes time."""
_AGAIN = "copy the file once more from where it was written, or export it again"

_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""FlatBuffers.Dl.TensorDataType, which has the numbers of ONNX's TensorProto."""

_FLOAT, _INT, _STRING, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 6, 7, 8
"""FlatBuffers.Dl.AttributeType."""

_FAULTS = (
    struct.error,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What the generated readers raise on bytes that are no model."""


class UnreadableModelError(EspdlQuantizeError):
    """A file is no .espdl model, or is damaged."""


def read_model(file: Path) -> ChipModel:
    """Read a model.

    Raises:
        OutputFolderError: the file cannot be opened, or is larger than any chip's flash.
        UnreadableModelError: it is no .espdl, encrypted, cut off, or its offsets lead nowhere.
    """
    return parse_model(read_content(file))


def read_content(file: Path) -> bytes:
    """Read the bytes of a file that a chip's flash could hold.

    Raises:
        OutputFolderError: the file cannot be opened, or is larger than any chip's flash.
    """
    try:
        size = file.stat().st_size
        if size > _LARGEST:
            raise OutputFolderError(
                f"{file} has {size // _MIB} MiB, the limit is {_LARGEST // _MIB} MiB",
                "no chip holds such a model",
            )
        return file.read_bytes()
    except OSError as error:
        raise OutputFolderError(f"{file} cannot be read: {error.strerror or error}") from error


def parse_model(content: bytes) -> ChipModel:
    """Parse the bytes of an .espdl file.

    Raises:
        UnreadableModelError: they are none, or are damaged.
    """
    if len(content) < _HEADER.size:
        raise UnreadableModelError(
            f"the file has {len(content)} bytes, fewer than its header", _AGAIN
        )
    magic, encrypted, length = _HEADER.unpack_from(content)
    if magic != b"EDL2":
        raise UnreadableModelError(
            f"the file starts with {magic!r}, expected b'EDL2'",
            "give an .espdl of esp-ppq for ESP-DL 3; several models packed into one file are none",
        )
    if encrypted:
        raise UnreadableModelError("the file is encrypted", "export it without encryption")
    body = content[_HEADER.size :]
    if length != len(body):
        raise UnreadableModelError(
            f"the header announces {length} bytes, {len(body)} follow", _AGAIN
        )
    try:
        graph, shape_type = espdl_tables(body)
        return _Reader(body, shape_type).model(graph)
    except _FAULTS as error:
        raise UnreadableModelError(f"the FlatBuffer is damaged: {error}", _AGAIN) from error


class _Reader:
    def __init__(self, body: bytes, shape_type: Any) -> None:
        self._body, self._shape_type = body, shape_type
        self._left = _OFTEN * len(body) + _MIB

    def model(self, graph: Any) -> ChipModel:
        constants = (self._constant(tensor) for tensor in self._each(graph, "Initializer"))
        values = [self._value(value) for value in self._each(graph, "ValueInfo")]
        return ChipModel(
            nodes=tuple(self._node(node) for node in self._each(graph, "Node")),
            constants=_by_name(constants),
            values=_by_name(iter(values)),
            inputs=tuple(self._text(value.Name()) for value in self._each(graph, "Input")),
            outputs=tuple(self._text(value.Name()) for value in self._each(graph, "Output")),
            test_inputs=self._test_values(graph, "TestInputsValue"),
            test_outputs=self._test_values(graph, "TestOutputsValue"),
        )

    def _each(self, table: Any, field: str, size: int = 4) -> Iterator[Any]:
        item: Callable[[int], Any] = getattr(table, field)
        for number in range(self._length(table, field, size)):
            self._spend(_ITEM)
            yield item(number)

    def _length(self, table: Any, field: str, size: int) -> int:
        count = int(getattr(table, f"{field}Length")())
        if count * size > len(self._body):
            raise ValueError(f"{field} has {count} items, more than the file can hold")
        self._spend(count * size)
        return count

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"its parts come to more than {_OFTEN} times its size")

    def _text(self, raw: Any) -> str:
        if raw is None:
            return ""
        self._spend(len(raw))
        return str(raw.decode() if isinstance(raw, bytes) else raw)

    def _sizes(self, sizes: Iterator[int], name: str) -> tuple[int, ...]:
        shape = tuple(sizes)
        if len(shape) > _MOST_AXES or any(size < 0 for size in shape):
            raise ValueError(f"{name!r} has the shape {shape[:_MOST_AXES]}")
        return shape

    def _numbers(self, table: Any, field: str, size: int = 8) -> tuple[Any, ...]:
        if not self._length(table, field, size):
            return ()
        return tuple(getattr(table, f"{field}AsNumpy")().tolist())

    def _node(self, node: Any) -> Node:
        return Node(
            name=self._text(node.Name()),
            op_type=self._text(node.OpType()),
            inputs=tuple(map(self._text, self._each(node, "Input"))),
            outputs=tuple(map(self._text, self._each(node, "Output"))),
            attributes=dict(self._attribute(item) for item in self._each(node, "Attribute")),
        )

    def _attribute(self, attribute: Any) -> tuple[str, Any]:
        kind, value = attribute.AttrType(), None
        if kind == _FLOAT:
            value = attribute.F().F()
        elif kind == _INT:
            value = attribute.I().I()
        elif kind == _STRING:
            self._length(attribute, "S", 1)
            value = attribute.SAsNumpy().tobytes().decode()
        elif kind == _FLOATS:
            value = self._numbers(attribute, "Floats", 4)
        elif kind == _INTS:
            value = self._numbers(attribute, "Ints")
        elif kind == _STRINGS:
            value = tuple(map(self._text, self._each(attribute, "Strings")))
        return self._text(attribute.Name()), value

    def _constant(self, tensor: Any) -> Tensor:
        import numpy as np

        name, dtype = self._text(tensor.Name()), _dtype(tensor.DataType())
        shape = self._sizes(iter(self._numbers(tensor, "Dims")), name)
        count, chunks = math.prod(shape), self._length(tensor, "RawData", _CHUNK)
        if count > len(self._body):
            raise ValueError(f"{name!r} has the shape {shape}")
        data = None
        if chunks:
            start = tensor.RawData(0)._tab.Pos
            raw = self._body[start : start + chunks * _CHUNK]
            data = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
            if len(data) < count:
                raise ValueError(f"{name!r} has {len(data)} numbers, its shape {shape} has {count}")
            data = data[:count]
        elif count and shape:
            raise ValueError(f"{name!r} has no numbers, its shape {shape} has {count}")
        return Tensor(name, dtype, shape, self._numbers(tensor, "Exponents"), data)

    def _test_values(self, graph: Any, field: str) -> dict[str, Tensor]:
        return _by_name(self._constant(tensor) for tensor in self._each(graph, field))

    def _value(self, value: Any) -> Tensor:
        kind, held = self._shape_type(), value.ValueInfoType().Value()
        kind.Init(held.Bytes, held.Pos)
        name, shape, sizes = self._text(value.Name()), kind.Shape(), None
        if shape is not None:
            axes = (int(size.Value().DimValue()) for size in self._each(shape, "Dim"))
            sizes = self._sizes(axes, name)
        exponents = self._numbers(value, "Exponents")
        return Tensor(name, _dtype(kind.ElemType()), sizes, exponents)


def _by_name(tensors: Iterator[Tensor]) -> dict[str, Tensor]:
    by_name: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name in by_name and tensor.name:
            raise ValueError(f"the name {tensor.name!r} is given twice")
        by_name[tensor.name] = tensor
    return by_name


def _dtype(number: int) -> str:
    if number not in _DTYPES:
        raise ValueError(f"{number} is no type of a tensor")
    return _DTYPES[number]
