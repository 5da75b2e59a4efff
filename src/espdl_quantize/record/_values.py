"""Reading values of unknown origin: what is not of the expected type is None, not an error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espdl_quantize.core import load_json


def number(value: object) -> float | None:
    """Return ``value`` as a finite float; None for anything else (a boolean is no number)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def integer(value: object) -> int | None:
    """Return ``value`` where it is an int; a boolean is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def width(value: object) -> int | None:
    """Return ``value`` where it is a width that a contract may state: 8 or 16."""
    bits = integer(value)
    return bits if bits in (8, 16) else None


def text(value: object) -> str | None:
    """Return ``value`` where it is a string, without halves of surrogate pairs.

    JSON can spell such halves, but no file can hold them as UTF-8.
    """
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a list; nothing where ``value`` is no list."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def names(value: object) -> tuple[str, ...]:
    """Return the strings of a list; empty where ``value`` is no list."""
    if not isinstance(value, list):
        return ()
    return tuple(name for item in value if (name := text(item)) is not None)


def read_any(path: Path) -> tuple[Any, str | None]:
    """Read a JSON file of any shape.

    Returns:
        The value and None; or None and what is wrong, in words that follow the file's name.
    """
    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for, for ever.
            return None, "is no file"
        return load_json(path), None
    except FileNotFoundError:
        return None, "is missing"
    except (OSError, UnicodeDecodeError) as error:
        return None, f"cannot be read: {error}"
    except ValueError as error:
        return None, f"is not JSON: {error}"
