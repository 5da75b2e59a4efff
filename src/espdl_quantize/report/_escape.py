"""Text from files, made safe for Markdown, code blocks and terminals."""

from __future__ import annotations

import html
import math
import re
from typing import Any

from espdl_quantize.core import SHELL
from espdl_quantize.search import describe_seconds

_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
"""Control characters, line breaks and marks that turn the direction of text."""

_SPECIAL = re.compile(r"([\\`*\[\]|~#$])")
_EDGE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore inside a word emphasises nothing in CommonMark; elsewhere it may."""


def plain(text: object, limit: int = 300) -> str:
    """Return one line without control characters, cut to ``limit`` characters.

    Options and commands in it are spelled as a shell's: whoever reads a report has one.
    """
    words = SHELL.spell(text) if isinstance(text, str) else str(text)
    line = _INVISIBLE.sub(" ", words).encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= limit else line[: limit - 3] + "..."


def md(text: object, limit: int = 300) -> str:
    """Return one line that Markdown shows as it is, also within a table."""
    line = html.escape(plain(text, limit), quote=False)
    # Only at the start of a line does ">" mean something.
    line = line[:1] + line[1:].replace("&gt;", ">")
    escaped = _SPECIAL.sub(r"\\\1", line)
    return _EDGE_UNDERSCORE.sub(r"\\_", escaped)


def python_literal(value: Any) -> str:
    """Return ``value`` as a Python literal that no code fence and no HTML parser trips over."""
    if isinstance(value, str):
        return ascii(value).replace("<", r"\x3c").replace("`", r"\x60")
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(python_literal(item) for item in value) + "]"
    if isinstance(value, dict):
        items = (f"{python_literal(key)}: {python_literal(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    return repr(value)


def number(value: float | None, *, sign: bool = False) -> str:
    """Write a score or a difference of scores."""
    if value is None:
        return "-"
    return f"{value:+.6g}" if sign else f"{value:.6g}"


def duration(seconds: float | None) -> str:
    """Write a duration, "-" for an unknown one."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    return describe_seconds(seconds)
