"""Writes the weights of an .espdl file 16 bytes at a time.

esp-ppq hands them to the FlatBuffers builder byte by byte, through five calls for each. The bytes
of the file stay the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_CHUNK = 16
"""Bytes of FlatBuffers' ``AlignedBytes``, which raw data is a vector of."""


class _Packer:
    """Stands in for the generated module ``AlignedBytes``."""

    @staticmethod
    def CreateAlignedBytes(builder: Any, data: bytes) -> None:  # noqa: N802, its name there
        """Prepend one chunk; starting the vector has made room for all of them."""
        end = builder.head
        builder.head = end - _CHUNK
        builder.Bytes[builder.head : end] = data


@contextlib.contextmanager
def fast_packing() -> Iterator[None]:
    """Make esp-ppq's exporter write weights in chunks within the block."""
    from esp_ppq.parser.espdl import helper

    original = helper.AlignedBytes
    helper.AlignedBytes = _Packer
    try:
        yield
    finally:
        helper.AlignedBytes = original
