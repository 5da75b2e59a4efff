"""Writing a text file whole or not at all."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import OutputFolderError, beside_of, create_beside


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the whole old file or the whole new one.

    Raises:
        OutputFolderError: the file cannot be written.
    """
    beside = beside_of(path)
    try:
        with create_beside(beside) as file:
            file.write(text.encode("utf-8", errors="replace"))
        beside.replace(path)
    except OSError as error:
        raise OutputFolderError(
            f"{path} cannot be written: {error.strerror or error}",
            "check the permissions and the free space of the output folder",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
