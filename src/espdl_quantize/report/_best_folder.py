"""Writes ``best/`` and ``front/``: real copies of what deploys the best iteration, and others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from espdl_quantize.core import OutputFolderError, write_json
from espdl_quantize.deploy import CARD, whole_card
from espdl_quantize.record import Iteration, carry_over, iteration_number
from espdl_quantize.record.files import (
    BEST,
    CHIP_COST,
    DESCRIPTION,
    FRONT,
    FRONT_MARK,
    INDEX,
    INFO,
    METRICS,
    MODEL,
    SETTING,
    TEST_MODEL,
)

FILES = (MODEL, SETTING, METRICS, INDEX)
EXTRAS = (TEST_MODEL, INFO, CHIP_COST)
"""Copied where the iteration has them: one of an earlier version has none."""
_OURS = (*FILES, *EXTRAS, DESCRIPTION)


def write_best(outputs: Path, best: Iteration) -> list[str]:
    """Swap in a new ``best/``; a reader sees the old folder or the new one.

    Files of the user's in the old folder are kept, a folder that is not ours is
    renamed.

    Returns:
        What the reader should know.

    Raises:
        OutputFolderError: nothing can be written there.
    """
    notes: list[str] = []

    def fill(fresh: Path) -> None:
        notes.extend(_copy(best, outputs, fresh, "best/"))
        card = whole_card(best.folder) if _is_inside(best.folder / CARD, outputs) else None
        if card is not None:
            write_json(fresh / DESCRIPTION, card)

    return notes + _swap_in(
        outputs, BEST, fill, lambda old, fresh: carry_over(old, fresh, but=_OURS)
    )


def write_front(outputs: Path, others: Sequence[Iteration]) -> list[str]:
    """Swap in a new ``front/`` with a folder for each iteration; without any, there is none.

    What is no longer on the front goes. Files of the user's are kept, a folder that is not ours is
    kept under another name.

    Args:
        outputs: the output folder.
        others: the iterations on the front of accuracy and time, less best.

    Returns:
        What the reader should know.

    Raises:
        OutputFolderError: nothing can be written there.
    """
    notes: list[str] = []
    if not others and not os.path.lexists(outputs / FRONT):
        return notes

    def fill(fresh: Path) -> None:
        for record in others:
            (fresh / record.name).mkdir()
            notes.extend(_copy(record, outputs, fresh / record.name, f"{FRONT}/{record.name}"))
        write_json(fresh / FRONT_MARK, {"iterations": [record.id for record in others]})

    def keep(old: Path, fresh: Path) -> None:
        held = [entry for entry in old.iterdir() if _is_of_the_front(entry)]
        carry_over(old, fresh, but={FRONT_MARK, *(entry.name for entry in held)})
        for entry in held:
            if any(item.name not in _OURS for item in entry.iterdir()):
                (fresh / entry.name).mkdir(exist_ok=True)
                carry_over(entry, fresh / entry.name, but=_OURS)

    notes += _swap_in(outputs, FRONT, fill, keep, mark=FRONT_MARK)
    folder = outputs / FRONT
    if not others and {entry.name for entry in folder.iterdir()} == {FRONT_MARK}:
        shutil.rmtree(folder, ignore_errors=True)
    return notes


def _is_of_the_front(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink() and iteration_number(entry) is not None


def _copy(record: Iteration, outputs: Path, folder: Path, name: str) -> Iterator[str]:
    """Copy what deploys an iteration; yield what it lacks."""
    for file in (*FILES, *EXTRAS):
        source = record.folder / file
        if _is_inside(source, outputs):
            shutil.copyfile(source, folder / file)
        elif file in FILES:
            yield f"{name} has no {file}: {record.name} has no such file"


def _swap_in(
    outputs: Path,
    name: str,
    fill: Callable[[Path], None],
    keep: Callable[[Path, Path], None],
    mark: str = INDEX,
) -> list[str]:
    """Fill a folder beside, take over what is the user's, and put it in the place of the old one.

    Args:
        outputs: the output folder.
        name: of the folder in it.
        fill: writes the new one.
        keep: given the old and the new folder, takes over the user's files.
        mark: a file that every such folder of ours has; one without it is somebody else's.
    """
    folder = outputs / name
    fresh, retired = outputs / f".{name}.new", outputs / f".{name}.old"
    notes: list[str] = []
    try:
        _recover(folder, fresh, retired)
        fresh.mkdir()
        fill(fresh)
        if os.path.lexists(folder):
            if _is_empty(folder):
                folder.rmdir()
            elif folder.is_symlink() or not (folder / mark).is_file():
                renamed = free_name(outputs, f"{name}.foreign")
                folder.rename(renamed)
                notes.append(f"{name}/ was not written by this tool; it is now {renamed.name}")
            else:
                keep(folder, fresh)
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
