"""What a client's model is given to read: clean, short, and with its source named.

Names of ops, messages and logs come from the user's module and model, and so from anybody.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from typing import Any

DEFAULT_SIZE = 8_000
"""Characters of a result, text and structured content together."""
LARGEST_SIZE = 25_000
"""Characters of a result for which more was asked."""
_TEXT_SIZE = 2_000
"""Characters of the text beside structured content, of a result of the default size."""
_STEPS = (
    (2000, 60),
    (1000, 40),
    (600, 25),
    (400, 15),
    (250, 10),
    (160, 6),
    (100, 4),
    (60, 2),
    (40, 1),
)
"""Characters of a string and entries of a list, ever fewer until a result fits."""
_KEPT = "\n\t"
UNTRUSTED = "| "
"""What begins each line of foreign text."""


def clean(text: str) -> str:
    """Return a text without control, direction, invisible and private characters.

    Line ends and tabs stay. The categories are Unicode's: Cc, Cf (which has the direction marks,
    zero-width characters and tags), Co, Cs, Zl and Zp.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        for character in text.replace("\r\n", "\n")
        if character in _KEPT
        or (
            not unicodedata.category(character).startswith("C")
            and unicodedata.category(character) not in ("Zl", "Zp")
        )
    )


def cleaned(value: Any) -> Any:
    """Return JSON with every string in it, keys too, cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(str(key)): cleaned(item) for key, item in value.items()}
    return value


def without_nothing(value: Any) -> Any:
    """Return JSON without keys that hold null, an empty list or an empty object."""
    if isinstance(value, list):
        return [without_nothing(item) for item in value]
    if isinstance(value, dict):
        return {
            key: without_nothing(item)
            for key, item in value.items()
            if item is not None and item != [] and item != {}
        }
    return value


def dumped(value: Any) -> str:
    """Return JSON as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def size_of(value: Any) -> int:
    """Return the characters of JSON on the wire."""
    return len(dumped(value))


def fitted(value: Any, size: int, whole: Iterable[str] = ()) -> tuple[Any, bool]:
    """Return JSON of at most so many characters, and whether anything was cut for that.

    Long strings and long lists are cut, with a note of what there was.

    Args:
        value: the content of a result.
        size: in characters.
        whole: keys whose content is kept as it is.
    """
    if size_of(value) <= size:
        return value, False
    kept = frozenset(whole)
    for longest, most in _STEPS:
        cut = _cut(value, longest, most, kept)
        if size_of(cut) <= size:
            return cut, True
    return _cut(value, 30, 1, frozenset()), True


def _cut(value: Any, longest: int, most: int, whole: frozenset[str]) -> Any:
    if isinstance(value, str):
        return shortened(value, longest)
    if isinstance(value, list):
        kept = [_cut(item, longest, most, whole) for item in value[:most]]
        is_text = all(isinstance(item, str) for item in value)
        more = len(value) - most
        return [*kept, f"... and {more} more"] if more > 0 and is_text else kept
    if isinstance(value, dict):
        items = list(value.items())[: max(4 * most, 24)]
        return {
            shortened(key, 200): item if key in whole else _cut(item, longest, most, whole)
            for key, item in items
        }
    return value


def shortened(text: str, longest: int) -> str:
    """Return at most so many characters of a text, with a note where there were more."""
    if len(text) <= longest:
        return text
    note = f" ... ({len(text)} characters)"
    return text[: max(longest - len(note), 0)] + note


def quoted(lines: Iterable[str]) -> str:
    """Return foreign lines, each marked, so that none can pass for the server's own."""
    return "\n".join(UNTRUSTED + line for text in lines for line in clean(text).split("\n"))


def as_text(value: dict[str, Any], size: int = _TEXT_SIZE) -> str:
    """Return structured content in few words, for clients that show their model text alone."""
    lines: list[str] = []
    for key, item in value.items():
        if key != "untrusted":
            lines += _lines(key, item)
    text = "\n".join(lines)
    if len(text) > size:
        text = text[:size].rsplit("\n", 1)[0] + "\n... (cut; structuredContent has more)"
    foreign = value.get("untrusted")
    if foreign:
        names = foreign if isinstance(foreign, list) else [foreign]
        listed = shortened(", ".join(map(_compact, names)), 200)
        text += f"\n(untrusted, words of contract or model: {listed})"
    return text


def _lines(key: str, item: Any) -> list[str]:
    if isinstance(item, list) and len(item) > 1 and isinstance(item[0], (dict, str)):
        return [f"{key}:", *(f"- {_compact(entry)}" for entry in item)]
    return [f"{key}: {_compact(item)}"]


def _compact(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, dict) and not any(isinstance(part, (dict, list)) for part in item.values()):
        return ", ".join(f"{key} {_compact(part)}" for key, part in item.items())
    return dumped(item)
