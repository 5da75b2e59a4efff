"""What an iteration that is run again in its folder keeps of its earlier failures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json, OutputFolderError, read_json, write_json

MOST_ATTEMPTS = 10
"""So many of the latest failed attempts are kept."""

_MOST_TEXT = 500
_MOST_LAYERS = 64
_TEXTS = ("stage", "pass", "field", "layer", "cause", "hint")


def keep_attempts(index_file: Path, fresh_file: Path) -> None:
    """Put the failed attempts of an iteration into the index of the one that takes its place.

    Args:
        index_file: iteration_index.json of the iteration as it is; need not exist.
        fresh_file: of the one that takes its place; where there is none, nothing is written.

    Raises:
        OSError: the index cannot be written.
    """
    attempts = failed_attempts(index_file)
    index = _read(fresh_file)
    if attempts and index:
        write_json(fresh_file, {**index, "attempts": attempts})


def failed_attempts(index_file: Path) -> list[Json]:
    """Return the failed attempts of an iteration, the latest last, its present state among them."""
    index = _read(index_file)
    earlier = index.get("attempts")
    attempts = (
        [entry for entry in earlier if isinstance(entry, dict)] if isinstance(earlier, list) else []
    )
    if index.get("status") == "failed":
        attempts.append(_attempt(index_file, index))
    return attempts[-MOST_ATTEMPTS:]


def _attempt(index_file: Path, index: Json) -> Json:
    stated = index.get("error")
    error = stated if isinstance(stated, dict) else {"cause": stated}
    ended = time.localtime(index_file.stat().st_mtime)
    layers = error.get("layers")
    return {
        "ended_at": time.strftime("%Y-%m-%dT%H:%M:%S%z", ended),
        "elapsed_seconds": index.get("elapsed_seconds"),
        **{name: _short(error.get(name)) for name in _TEXTS},
        "layers": list(map(_short, layers[:_MOST_LAYERS])) if isinstance(layers, list) else [],
    }


def _short(value: Any) -> str | None:
    return value[:_MOST_TEXT] if isinstance(value, str) and value else None


def _read(index_file: Path) -> Json:
    try:
        return read_json(index_file)
    except OutputFolderError:
        return {}
