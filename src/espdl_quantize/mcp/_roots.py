"""The folders that a client may name paths in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espdl_quantize.core import EspdlQuantizeError, UsageError
from espdl_quantize.mcp.texts import clean, shortened


class Roots:
    """Resolves paths, and refuses those outside the folders that the user gave.

    Args:
        folders: at least one; relative paths are taken from the first.

    Raises:
        UsageError: there is none, or one is no folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        if not folders:
            raise UsageError("no root is given", "give --root DIR")
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"the root {folder} is no folder", "give --root a folder")
        self.folders = tuple(folder.resolve() for folder in folders)

    @property
    def first(self) -> Path:
        """Where relative paths start, and where jobs run."""
        return self.folders[0]

    def resolve(self, path: str | Path, what: str) -> Path:
        """Return the absolute path, with links and ``..`` resolved.

        Args:
            path: absolute, or relative to the first root.
            what: the name of the argument, for the error.

        Raises:
            EspdlQuantizeError: it is outside every root.
            UsageError: it is no path.
        """
        if not str(path) or "\0" in str(path):
            raise UsageError(f"{what} is {str(path)!r}", f"give a path inside {self}")
        if clean(str(path)) != str(path) or set("\n\t") & set(str(path)):
            # What is shown of it would be another path.
            raise UsageError(
                f"{what} {shortened(ascii(str(path)), 200)} has control or direction marks in it",
                "give a path without them",
            )
        target = (self.first / path).resolve()
        if not any(target.is_relative_to(folder) for folder in self.folders):
            raise EspdlQuantizeError(
                f"{what} {str(path)!r} is {target}, outside of the roots of this server: {self}",
                "give a path inside a root, or have the user start the server with another --root",
            )
        return target

    def __str__(self) -> str:
        return ", ".join(map(str, self.folders))
