"""The skill's own files, which come with the package."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import InstallationError

SKILL_NAME = "espdl-quantize"

_HERE = Path(__file__).resolve().parent
_IN_WHEEL = _HERE / "files" / SKILL_NAME
"""Where the build copies the folder to (setup.py)."""
_CHECKOUT = _HERE.parents[2]


def skill_source() -> Path:
    """Return the folder of the skill: in a checkout the one at its root, else the packaged copy.

    Raises:
        InstallationError: neither is there.
    """
    for folder in (_CHECKOUT / "skill" / SKILL_NAME, _IN_WHEEL):
        if (folder / "SKILL.md").is_file():
            return folder
    raise InstallationError(
        f"the skill's files are missing: {_IN_WHEEL} does not exist",
        "install espdl-quantize again; its wheel holds them",
    )


def checkout() -> Path | None:
    """Return the folder of the checkout that this package runs from, None for an installed one."""
    return _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else None


def skill_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their path in it, with slashes; no byte code."""
    return {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
