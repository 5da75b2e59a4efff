"""Reading and writing JSON files that every JSON parser accepts.

Python's ``json`` writes NaN and infinities as bare words, which is not JSON (RFC 8259). esp-ppq
yields them (the skewness of a constant tensor, for one), so they are written as ``null`` here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import IO, Any

from espdl_quantize.core.errors import Json, OutputFolderError


def to_jsonable(value: Any) -> Any:
    """Copy ``value`` with only JSON types: non-finite floats become None, scalars plain numbers.

    Scalars of numpy and torch are recognised by their ``item`` method, arrays by ``tolist``.

    Raises:
        TypeError: a value has no JSON form.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    for method in ("tolist", "item"):
        if callable(getattr(value, method, None)):
            return to_jsonable(getattr(value, method)())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def dumps(value: Any) -> str:
    """Render ``value`` as indented JSON with a final newline."""
    return json.dumps(to_jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


_BESIDE = re.compile(r"\..+\.([0-9]+)\.tmp")


def beside_of(path: Path) -> Path:
    """Return the hidden file that is written first and renamed to ``path`` then."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def create_beside(beside: Path) -> IO[bytes]:
    """Create what :func:`beside_of` names, for writing.

    Whatever lies there is removed first and never followed: a link of that name that came with the
    folder would lead the writing to any file of the user's.

    Raises:
        OSError: it cannot be created.
    """
    beside.unlink(missing_ok=True)
    return beside.open("xb")


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed have left of :func:`beside_of` in a folder."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            match = _BESIDE.fullmatch(file.name)
            if match is not None and not _is_alive(int(match[1])):
                file.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` so that a reader sees the whole old file or the whole new one."""
    beside = beside_of(path)
    try:
        with create_beside(beside) as file:
            file.write(dumps(value).encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


_MIB = 1 << 20
LARGEST = 256 * _MIB
"""Bytes of a JSON file that are read: tens of times the artifacts of a network of 1,000 ops."""
DEEPEST = 64
"""Lists and objects within each other; what this package writes is a tenth as deep. Python's own
limit depends on who calls, and ends some walks over the value and not others."""


def open_regular(path: Path, *, follow: bool = True) -> IO[bytes]:
    """Open a regular file for reading; anything else is refused, and never waited for.

    A pipe would be waited for, a device may never end.

    Args:
        path: the file.
        follow: accept a link to a file. Not where the folder may come from somebody else and what
            it holds is shown to a third.

    Raises:
        OSError: it is missing, unreadable, or no regular file.
    """
    # Not every system has these two; there, the check of the opened file has to do.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        # A socket cannot be opened, nor a device that is not there; some systems refuse a folder.
        if error.errno in (errno.ENXIO, errno.ENODEV, errno.EISDIR):
            raise OSError(errno.EINVAL, "it is no regular file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def load_json(path: Any, largest: int = LARGEST, *, follow: bool = True) -> Any:
    """Read JSON of any shape from a file that anybody may have written.

    Args:
        path: a ``Path``, or a ``zipfile.Path``.
        largest: bytes that are read at most.
        follow: accept a link to a file, as of :func:`open_regular`.

    Raises:
        OSError: it is missing, unreadable, or no regular file.
        ValueError: it is too large, too deep, no UTF-8 or no JSON.
    """
    with open_regular(path, follow=follow) if isinstance(path, Path) else path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it has more than {largest / _MIB:g} MiB")
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from None
    if is_too_deep(value):
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    return value


def is_too_deep(value: Any) -> bool:
    """Tell whether a value from outside is nested deeper than :data:`DEEPEST`."""
    return _deeper_than(value, DEEPEST)


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit + 1):
        level = [
            item
            for nested in level
            for item in (nested.values() if isinstance(nested, dict) else nested)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True


def read_json(path: Path) -> Json:
    """Read a JSON object.

    Raises:
        OutputFolderError: the file is missing, unreadable, too large, not JSON, or holds no object.
    """
    try:
        value = load_json(path)
    except FileNotFoundError:
        raise OutputFolderError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OutputFolderError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise OutputFolderError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise OutputFolderError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value
