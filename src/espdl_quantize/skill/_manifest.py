"""What an installation wrote: its version, each file's hash, and how to install the package."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from espdl_quantize import __version__
from espdl_quantize.core import Json, OutputFolderError, read_json
from espdl_quantize.core.digests import sha256_of
from espdl_quantize.skill._source import checkout

MANIFEST = ".installed.json"
"""Lies in the installed skill's folder; its scripts read ``requirement`` and ``python``."""

_GENERATOR = "espdl-quantize skill install"


@dataclass(frozen=True)
class Manifest:
    """The record of one installation.

    Attributes:
        version: of the package that wrote it.
        files: SHA-256 of each file as it was written, by its path in the skill.
    """

    version: str
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return plain data, with the line that installs the package where a script misses it."""
        return {
            "generated_by": _GENERATOR,
            "version": self.version,
            "requirement": requirement(),
            "python": sys.executable,
            "files": self.files,
        }


def read_manifest(folder: Path) -> Manifest | None:
    """Read the record in an installed skill; None where there is none that can be relied on."""
    try:
        manifest = read_json(folder / MANIFEST)
    except OutputFolderError:
        return None
    files, version = manifest.get("files"), manifest.get("version")
    if manifest.get("generated_by") != _GENERATOR or not isinstance(files, dict):
        return None
    hashes = {str(name): str(digest) for name, digest in files.items() if _is_inside(str(name))}
    return Manifest(str(version), hashes)


def hash_of(file: Path) -> str | None:
    """Return a file's SHA-256; None where it is missing, a link, or no file."""
    if file.is_symlink() or not file.is_file():
        return None
    return sha256_of(file)


def requirement() -> str:
    """Return what pip installs this package from: the checkout, its origin, or the index."""
    folder = checkout()
    if folder is not None:
        return str(folder)
    try:
        origin = metadata.distribution("espdl-quantize").read_text("direct_url.json")
        url = str(json.loads(origin)["url"]) if origin else ""
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        url = ""
    if url.startswith("file:"):
        return unquote(urlsplit(url).path)
    return f"espdl-quantize @ {url}" if url else f"espdl-quantize=={__version__}"


def _is_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts
