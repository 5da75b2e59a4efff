"""Text on its way from the Markdown report into a page."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any

from espdl_quantize.core import to_jsonable
from espdl_quantize.search import describe_seconds

_ESCAPED = re.compile(r"\\([\\`*\[\]|~#$_])")


def from_md(text: str) -> str:
    """Undo :func:`espdl_quantize.report._escape.md`; the page escapes in its own way."""
    return html.unescape(_ESCAPED.sub(r"\1", text))


def script_json(value: Any) -> str:
    """Return JSON that can stand inside a ``<script>`` element, whatever strings it holds."""
    text = json.dumps(to_jsonable(value), ensure_ascii=True, allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def duration(seconds: float | None) -> str:
    """Write a duration, "-" for an unknown one."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    return describe_seconds(seconds)
