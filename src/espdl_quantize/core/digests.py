"""The digest of a file, by which one model is distinguished from another."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(file: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits.

    Raises:
        OSError: it cannot be read. Two files that are not there are not equal; who expects one to
            be missing decides what that means.
    """
    return hashlib.sha256(file.read_bytes()).hexdigest()
