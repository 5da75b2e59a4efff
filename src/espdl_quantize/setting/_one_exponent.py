"""Which settings leave an Add or Sub with several exponents, which no chip computes rightly.

ESP-DL adds, subtracts and compares raw integers: the inputs of an Add or Sub and its output need
one exponent. Of esp-ppq's alignments only 'Align to Output', its default for ESP-DL, sees to that:
'Align to Large' aligns the inputs alone, and the output keeps an exponent of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from espdl_quantize.setting._model import Setting

ONE_EXPONENT_OPS = frozenset({"Add", "Sub"})
"""Ops that esp-ppq's alignment of element-wise ops reaches, and whose exponents ESP-DL ignores."""

_KEY = "align_elementwise_to"
_SAFE = "Align to Output"


def unequal_exponents(setting: Setting) -> str | None:
    """Name what in a setting keeps Add and Sub from one exponent; None where nothing does.

    What ``extra`` sets counts, too: it is applied after all other fields.
    """
    section = setting.fusion_alignment
    stated = None if section is None else section.align_elementwise_to
    place = f"fusion_alignment.{_KEY}"
    for path, value in _flat(setting.extra or {}, ""):
        if path == f"fusion_setting.{_KEY}":
            place, stated = f"extra.{path}", value
        elif path == "fusion" and not value:
            # The alignment is one of the passes that this switch is for.
            return f"extra.fusion is {value!r}"
    return None if stated in (None, _SAFE) else f"{place} is {stated!r}"


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
