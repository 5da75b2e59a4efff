"""Writes, updates and removes the skill in one place, and keeps its hands off others' changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from espdl_quantize import __version__
from espdl_quantize.core import (
    EspdlQuantizeError,
    Hint,
    Option,
    OutputFolderError,
    beside_of,
    create_beside,
    write_json,
)
from espdl_quantize.skill._agents import Place
from espdl_quantize.skill._manifest import MANIFEST, Manifest, hash_of, read_manifest
from espdl_quantize.skill._source import skill_files, skill_source

State = Literal["not installed", "up to date", "outdated", "changed by hand", "not ours"]


@dataclass(frozen=True)
class Action:
    """What is to be done in one place.

    Attributes:
        place: where.
        write: files to write, by their path in the skill.
        delete: files to delete, which an older version had.
        conflicts: files that somebody changed and that would be lost.
    """

    place: Place
    write: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What was done in one place, or is there.

    Attributes:
        place: where.
        state: what is there now.
        version: of the installed skill, where it is known.
        written: files that were written.
        deleted: files that were deleted.
        kept: files that are not this package's, or were changed by hand, and that stay.
    """

    place: Place
    state: State
    version: str | None = None
    written: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def install(places: list[Place], *, force: bool = False, dry_run: bool = False) -> list[Outcome]:
    """Write or update the skill in every place, or in none.

    Args:
        places: where.
        force: overwrite what was changed by hand.
        dry_run: tell what would be done and do nothing.

    Raises:
        EspdlQuantizeError: files were changed by hand, and ``force`` is not set.
        OutputFolderError: a place is a link, or cannot be written.
    """
    actions = [_plan_install(place) for place in places]
    _refuse_conflicts(actions, "overwrite", force=force)
    return [_perform_install(action, dry_run=dry_run) for action in actions]


def remove(places: list[Place], *, force: bool = False, dry_run: bool = False) -> list[Outcome]:
    """Delete from every place, or from none, what :func:`install` wrote there.

    Files that it did not write stay.

    Raises:
        EspdlQuantizeError: files were changed by hand, and ``force`` is not set.
        OutputFolderError: a place is a link, or cannot be written.
    """
    actions = [_plan_remove(place) for place in places]
    _refuse_conflicts(actions, "delete", force=force)
    return [_perform_remove(action, dry_run=dry_run) for action in actions]


def state_of(place: Place) -> Outcome:
    """Tell what is in a place."""
    folder = place.folder
    if not folder.is_dir():
        return Outcome(place, "not installed")
    manifest = read_manifest(folder)
    if manifest is None:
        return Outcome(place, "not ours")
    changed = tuple(
        name
        for name, digest in manifest.files.items()
        if os.path.lexists(folder / name) and hash_of(folder / name) != digest
    )
    if changed:
        return Outcome(place, "changed by hand", manifest.version, kept=changed)
    action = _plan_install(place)
    state: State = "outdated" if action.write or action.delete else "up to date"
    return Outcome(place, state, manifest.version)


def _plan_install(place: Place) -> Action:
    _refuse_link(place.folder)
    folder, manifest = place.folder, read_manifest(place.folder)
    known = manifest.files if manifest is not None else {}
    new = {name: hash_of(file) for name, file in skill_files(skill_source()).items()}
    _refuse_links_inside(folder, (*new, *known))
    write, conflicts = [], []
    for name, digest in new.items():
        there = hash_of(folder / name)
        if there == digest:
            continue
        write.append(name)
        # A file that is missing is put back; one that holds what was never written is somebody's.
        if os.path.lexists(folder / name) and there != known.get(name):
            conflicts.append(name)
    delete = [name for name in known if name not in new and os.path.lexists(folder / name)]
    conflicts += [name for name in delete if hash_of(folder / name) != known[name]]
    return Action(place, tuple(write), tuple(delete), tuple(conflicts))


def _plan_remove(place: Place) -> Action:
    _refuse_link(place.folder)
    manifest = read_manifest(place.folder)
    if manifest is None:
        return Action(place)
    _refuse_links_inside(place.folder, (*manifest.files, "scripts/__pycache__"))
    there = [name for name in manifest.files if os.path.lexists(place.folder / name)]
    changed = [name for name in there if hash_of(place.folder / name) != manifest.files[name]]
    return Action(place, delete=tuple(there), conflicts=tuple(changed))


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise OutputFolderError(
            f"{folder} is a link to {folder.resolve()}",
            "the skill is already there by that link; remove the link to install a copy",
        )
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(f"{folder} is a file", "move it away")


def _refuse_links_inside(folder: Path, names: Iterable[str]) -> None:
    """Refuse to write or delete through a link in the skill's folder.

    The folder may have come with a project, its manifest too: what lies behind a link, even with
    the content that the manifest tells, was not written there by this package.
    """
    parents = {parent for name in names for parent in Path(name).parents}
    for parent in sorted(parents):
        if parent != Path() and (folder / parent).is_symlink():
            raise OutputFolderError(
                f"{folder / parent} is a link to {(folder / parent).resolve()}, and files of the "
                "skill are neither written nor deleted through it",
                "remove the link",
            )


def _refuse_conflicts(actions: list[Action], verb: str, *, force: bool) -> None:
    if force:
        return
    for action in actions:
        if action.conflicts:
            changed = ", ".join(action.conflicts[:5])
            more = len(action.conflicts) - 5
            changed += f" and {more} more" if more > 0 else ""
            raise EspdlQuantizeError(
                f"{action.place.folder} has files that were changed by hand: {changed}",
                Hint("keep a copy of them, then pass ", Option.FORCE.of(True), f" to {verb} them"),
            )


def _perform_install(action: Action, *, dry_run: bool) -> Outcome:
    folder, source = action.place.folder, skill_source()
    if not dry_run:
        try:
            for name in action.write:
                _write(folder / name, (source / name).read_bytes())
            _delete(folder, action.delete)
            _write_manifest(folder, source)
        except OSError as error:
            raise _cannot_write(folder, error) from error
    now = state_of(action.place)
    ours = set(skill_files(source)) | set(action.delete)
    kept = _others(folder, ours)
    return Outcome(action.place, now.state, now.version, action.write, action.delete, kept)


def _perform_remove(action: Action, *, dry_run: bool) -> Outcome:
    folder, manifest = action.place.folder, read_manifest(action.place.folder)
    if manifest is None:
        return state_of(action.place)
    kept = _others(folder, set(manifest.files))
    if not dry_run:
        try:
            shutil.rmtree(folder / "scripts" / "__pycache__", ignore_errors=True)
            _delete(folder, action.delete)
            (folder / MANIFEST).unlink()
            _remove_if_empty(folder)
            if action.place.level != "path":
                # .claude/skills and .claude, where the skill was all that they held.
                _remove_if_empty(folder.parent)
                _remove_if_empty(folder.parent.parent)
        except OSError as error:
            raise _cannot_write(folder, error) from error
    now = state_of(action.place)
    return Outcome(action.place, now.state, now.version, deleted=action.delete, kept=kept)


def _write(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the whole old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(path)
    try:
        with create_beside(beside) as file:
            file.write(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_manifest(folder: Path, source: Path) -> None:
    hashes = {name: hash_of(file) or "" for name, file in skill_files(source).items()}
    manifest = Manifest(__version__, hashes)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, manifest.to_json())


def _delete(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for parent in {(folder / name).parent for name in names} - {folder}:
        _remove_if_empty(parent)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _others(folder: Path, ours: set[str]) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(name for name in skill_files(folder) if name not in ours | {MANIFEST})


def _cannot_write(folder: Path, error: OSError) -> OutputFolderError:
    return OutputFolderError(
        f"{error.filename or folder} cannot be written: {error.strerror or error}",
        Hint("check its permissions, or give another ", Option.PATH),
    )
