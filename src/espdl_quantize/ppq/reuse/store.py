"""Named arrays on disk, under a key: bounded, safe to delete at any time."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from espdl_quantize.core import beside_of, create_beside, remove_abandoned

Arrays = dict[str, Any]


class Store:
    """One file per key. What was not used for longest goes first when the limit is reached.

    Nothing here raises for the state of the disk: what cannot be kept is computed again.

    Args:
        folder: need not exist yet.
        limit: bytes of all files together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    def get(self, key: str) -> Arrays | None:
        """Return the arrays of a key; None where there are none, or they cannot be read whole."""
        file = self._file(key)
        try:
            # The members' checksums tell a damaged file.
            with np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            os.utime(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        return arrays

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep arrays under a key, where there is room."""
        size = sum(array.nbytes for array in arrays.values())
        if size > self._limit:
            return
        file = self._file(key)
        beside = beside_of(file)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self._folder)
            self._make_room(size)
            with create_beside(beside) as target:
                np.savez(target, **arrays)
            beside.replace(file)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.npz"

    def _make_room(self, size: int) -> None:
        files = sorted(
            ((stat.st_mtime, stat.st_size, file) for file, stat in self._stats()), reverse=True
        )
        held = size
        for _, length, file in files:
            held += length
            if held > self._limit:
                file.unlink(missing_ok=True)

    def _stats(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for file in self._folder.iterdir():
            with contextlib.suppress(OSError):
                found.append((file, file.stat()))
        return found
