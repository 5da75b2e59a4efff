"""Writes the weights of an .espdl file 16 bytes at a time, and the .info file's text in one go.

The bytes are esp-ppq's own. esp-ppq hands weights to the FlatBuffers builder byte by byte, through
five calls for each. It reads every 16 bytes of a tensor by several calls, and numpy's own text of a
long array is made by appending each number to all of the text before it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from espdl_quantize.ppq._fallback import INFO, Fallback

_LONG = 1000
"""Numbers from which on an array's text is made here."""

_TYPES = (np.dtype(np.int8), np.dtype(np.int16))
"""What ESP-DL's weights are made of."""


def tensor_text(original: Callable[[Any], str], fallback: Fallback) -> Callable[[Any], str]:
    """Return what writes the values of long integer tensors faster."""
    return fallback.guarded(
        INFO,
        lambda tensor: _described(tensor, original),
        original,
        layer=lambda tensor: str(tensor.Name().decode("utf-8")),
    )


def _described(tensor: Any, original: Callable[[Any], str]) -> str:
    array = _raw_array(tensor)
    is_usual = not np.get_printoptions()["legacy"]
    if array is None or array.dtype not in _TYPES or len(array) < _LONG or not is_usual:
        return original(tensor)
    parts = [f"%{tensor.Name().decode('utf-8')}, "]
    if not tensor.DimsIsNone():
        parts.append(f"shape: {tensor.DimsAsNumpy().tolist()!r}, ")
    if not tensor.ExponentsIsNone():
        parts.append(f"exponents: {tensor.ExponentsAsNumpy().tolist()!r}, ")
    if tensor.DocString() is not None:
        parts.append(f"docString: {tensor.DocString()}, ")
    return "".join([*parts, "\nvalue: ", repr_of(array)])


def _raw_array(tensor: Any) -> Any:
    """Return the numbers of a tensor that has raw data and nothing else, else None."""
    from esp_ppq.parser.espdl import helper

    others = (tensor.FloatDataIsNone, tensor.Int32DataIsNone, tensor.StringDataIsNone)
    if (
        tensor.RawDataIsNone()
        or not tensor.Int64DataIsNone()
        or not all(other() for other in others)
    ):
        return None
    first, kind = tensor.RawData(0), helper.tensor_dtype_to_np_dtype(tensor.DataType())
    # A vector of structs of 16 bytes each.
    data = memoryview(first._tab.Bytes)[first._tab.Pos :][: tensor.RawDataLength() * 16]
    return np.frombuffer(data, dtype=kind)


def repr_of(array: Any) -> str:
    """Return numpy's ``repr`` of a one-dimensional array of int8 or int16, not shortened."""
    options = np.get_printoptions()
    low, high = int(array.min()), int(array.max())
    width = max(len(str(low)), len(str(high)))
    prefix = "array("
    indent = len(prefix) + 1
    # There is always room for the two closing brackets, and for one number.
    room = options["linewidth"] - 2 - indent
    per_line = max(1, (room - width) // (width + 2) + 1)
    table = np.array([f"{value:{width}d}, " for value in range(low, high + 1)], dtype=bytes)
    words = table[array.astype(np.int32) - low]
    whole = (len(words) - 1) // per_line
    lines = words[: whole * per_line].view(np.uint8).reshape(whole, per_line * (width + 2))[:, :-1]
    breaks = np.frombuffer(b"\n" + b" " * indent, np.uint8)
    text = np.concatenate([lines, np.broadcast_to(breaks, (whole, len(breaks)))], axis=1)
    last = b"".join(words[whole * per_line :].tolist())[:-2].decode() + "],"
    end = f"dtype={array.dtype})"
    fits = indent + len(last) + 1 + len(end) <= options["linewidth"]
    separator = " " if fits else "\n" + " " * len(prefix)
    return f"{prefix}[{text.tobytes().decode()}{last}{separator}{end}"


_CHUNK = 16
"""Bytes of FlatBuffers' ``AlignedBytes``, which raw data is a vector of."""


def prepend(builder: Any, data: bytes) -> None:
    """Prepend one chunk; starting the vector has made room for all of them."""
    end = builder.head
    builder.head = end - _CHUNK
    builder.Bytes[builder.head : end] = data


def packing(original: Any, fallback: Fallback) -> SimpleNamespace:
    """Return what stands in for the generated module that packs weights.

    A failure ends the export, which is guarded as a whole: there are too many chunks for a guard of
    each.
    """

    def pack(builder: Any, data: bytes) -> None:
        if fallback.is_plain:
            original.CreateAlignedBytes(builder, data)
        else:
            prepend(builder, data)

    return SimpleNamespace(CreateAlignedBytes=pack)
