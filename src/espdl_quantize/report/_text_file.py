"""Writing a text file whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from espdl_quantize.errors import OutputFolderError


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the whole old file or the whole new one.

    Raises:
        OutputFolderError: the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8", errors="replace")
        beside.replace(path)
    except OSError as error:
        raise OutputFolderError(
            f"{path} cannot be written: {error.strerror or error}",
            "check the permissions and the free space of the output folder",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
