"""Writes ``best/``: real copies of what deploys the best iteration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from espdl_quantize.core import OutputFolderError, write_json
from espdl_quantize.deploy import CARD, whole_card
from espdl_quantize.record import Iteration, carry_over
from espdl_quantize.record.files import (
    BEST,
    DESCRIPTION,
    INDEX,
    INFO,
    METRICS,
    MODEL,
    SETTING,
    TEST_MODEL,
)

FILES = (MODEL, SETTING, METRICS, INDEX)
EXTRAS = (TEST_MODEL, INFO)
"""Copied where the iteration has them: one of an earlier version has none."""
_OURS = (*FILES, *EXTRAS, DESCRIPTION)
_MARK = INDEX
"""Every ``best/`` of ours has it; a folder without it is somebody else's."""


def write_best(outputs: Path, best: Iteration) -> list[str]:
    """Swap in a new ``best/``; a reader sees the old folder or the new one.

    Files of the user's in the old folder are kept, a folder that is not ours is moved aside.

    Returns:
        What the reader should know.

    Raises:
        OutputFolderError: nothing can be written there.
    """
    folder = outputs / BEST
    fresh, retired = outputs / ".best.new", outputs / ".best.old"
    notes: list[str] = []
    try:
        _recover(folder, fresh, retired)
        fresh.mkdir()
        for name in (*FILES, *EXTRAS):
            source = best.folder / name
            if _is_inside(source, outputs):
                shutil.copyfile(source, fresh / name)
            elif name in FILES:
                notes.append(f"best/ has no {name}: {best.name} has no such file")
        card = whole_card(best.folder) if _is_inside(best.folder / CARD, outputs) else None
        if card is not None:
            write_json(fresh / DESCRIPTION, card)
        if os.path.lexists(folder):
            if _is_empty(folder):
                folder.rmdir()
            elif folder.is_symlink() or not (folder / _MARK).is_file():
                aside = free_name(outputs, "best.foreign")
                folder.rename(aside)
                notes.append(f"best/ was not written by this tool; it is now {aside.name}")
            else:
                carry_over(folder, fresh, but=_OURS)
                folder.rename(retired)
        fresh.rename(folder)
    except OSError as error:
        raise OutputFolderError(
            f"{folder} cannot be written: {error.strerror or error}",
            "check the permissions and the free space of the output folder",
        ) from error
    finally:
        _recover(folder, fresh, retired)
    return notes


def free_name(folder: Path, name: str) -> Path:
    """Return ``<name>-<n>`` with the first number that is free."""
    number = 1
    while os.path.lexists(folder / f"{name}-{number}"):
        number += 1
    return folder / f"{name}-{number}"


def _is_inside(source: Path, outputs: Path) -> bool:
    return source.is_file() and source.resolve().is_relative_to(outputs.resolve())


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _recover(folder: Path, fresh: Path, retired: Path) -> None:
    """Clear what is half-done, also by a process that was killed; the old folder comes back."""
    if retired.exists() and not os.path.lexists(folder):
        retired.rename(folder)
    for leftover in (fresh, retired):
        shutil.rmtree(leftover, ignore_errors=True)
