"""Paths of the command line, made whole before any code of the user runs."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import UsageError


def whole(path: Path) -> Path:
    """Return an absolute path, which means the same wherever a contract goes.

    Raises:
        UsageError: it is relative, and the working directory was deleted.
    """
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise UsageError(
            f"{path} is relative to the working directory, which was deleted",
            "change to a folder that is there, or give absolute paths",
        ) from error


def whole_if_given(path: Path | None) -> Path | None:
    """Return an absolute path, or None for none.

    Raises:
        UsageError: as :func:`whole`.
    """
    return None if path is None else whole(path)
