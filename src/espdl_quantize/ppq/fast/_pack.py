"""Writes the weights of an .espdl file 16 bytes at a time.

esp-ppq hands them to the FlatBuffers builder byte by byte, through five calls for each. The bytes
of the file stay the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from espdl_quantize.ppq._fallback import Fallback

_CHUNK = 16
"""Bytes of FlatBuffers' ``AlignedBytes``, which raw data is a vector of."""


def prepend(builder: Any, data: bytes) -> None:
    """Prepend one chunk; starting the vector has made room for all of them."""
    end = builder.head
    builder.head = end - _CHUNK
    builder.Bytes[builder.head : end] = data


@contextlib.contextmanager
def fast_packing(fallback: Fallback) -> Iterator[None]:
    """Make esp-ppq's exporter write weights in chunks within the block.

    A failure ends the export, which is guarded as a whole: there are too many chunks for a guard of
    each.
    """
    from esp_ppq.parser.espdl import helper

    original = helper.AlignedBytes

    def pack(builder: Any, data: bytes) -> None:
        if fallback.is_plain:
            original.CreateAlignedBytes(builder, data)
        else:
            prepend(builder, data)

    # Stands in for a generated module.
    helper.AlignedBytes = SimpleNamespace(CreateAlignedBytes=pack)
    try:
        yield
    finally:
        helper.AlignedBytes = original
