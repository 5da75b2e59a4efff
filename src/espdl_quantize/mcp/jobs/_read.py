"""Reads files of a job's folder: bounded, never through a link, never waiting."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from espdl_quantize.core import is_too_deep, open_regular, to_jsonable


def read_end(path: Path, largest: int) -> bytes | None:
    """Return the last bytes of a file; None where it is missing, unreadable or no regular file."""
    try:
        with open_regular(path, follow=False) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - largest, 0))
            return file.read(largest)
    except OSError:
        return None


def plain(value: Any) -> Any:
    """Return what was parsed as JSON so that it can be sent on as JSON, whatever it is.

    Raises:
        ValueError: it is nested too deep.
    """
    if is_too_deep(value):
        raise ValueError("it is nested too deep")
    # Python's parser accepts NaN, and halves of a surrogate pair, which no UTF-8 can hold.
    text = json.dumps(to_jsonable(value), ensure_ascii=False)
    return json.loads(text.encode("utf-8", errors="replace"))
