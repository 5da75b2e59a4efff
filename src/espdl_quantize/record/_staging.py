"""Claims an iteration's folder and makes it appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from espdl_quantize.core import (
    Hint,
    Option,
    OutputFolderError,
    load_json,
    read_json,
    remove_abandoned,
    write_json,
)
from espdl_quantize.record.failure import MOST_ATTEMPTS, Attempt
from espdl_quantize.record.files import ARTIFACTS, INDEX, LOCK, LOCK_HOLDER, REUSE
from espdl_quantize.record.iteration_record import read_record

_HOLDER_BYTES = 4096
_SINCE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


@contextlib.contextmanager
def locked(outputs: Path) -> Iterator[None]:
    """Hold the one writer's place in an output folder.

    Who holds it may ask again: a search holds the folder for its whole life, and each iteration of
    it asks for itself.

    Raises:
        OutputFolderError: another process, or another thread of this one, holds it; it is named.
    """
    try:
        outputs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(outputs, error) from error
    # One lock per folder and process, whose holder it counts; each thread has a count of its own.
    lock = FileLock(outputs.resolve() / LOCK, is_singleton=True)
    holder = outputs / LOCK_HOLDER
    outermost = not lock.is_locked
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputFolderError(
            f"{outputs} is in use by {_describe_holder(holder)}",
            "wait for it to end, or use another output folder",
        ) from None
    except OSError as error:
        raise _unusable(outputs, error) from error
    try:
        if outermost:
            remove_abandoned(outputs)
            remove_abandoned(outputs / REUSE)
            # It only tells others who holds the lock; the lock holds without it.
            with contextlib.suppress(OSError):
                write_json(
                    holder, {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
                )
        yield
    finally:
        if outermost:
            with contextlib.suppress(OSError):
                holder.unlink()
        lock.release()


@contextlib.contextmanager
def staged(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder beside ``folder`` to write into; it takes the place of ``folder`` at the end.

    Where the block raises, nothing of it is left. A folder that holds a setting.json or a failed
    iteration is replaced, its failure stays on record in the new one, and the user's own files in
    it are carried over.

    Raises:
        OutputFolderError: ``folder`` holds a finished iteration and ``overwrite`` is not set.
    """
    staging = folder.with_name(f".{folder.name}.partial")
    retired = folder.with_name(f".{folder.name}.retired")
    _recover(folder, staging, retired)
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputFolderError(
            f"{folder} is no folder, so no iteration can be written there", "move it away"
        )
    if not overwrite and is_finished(folder):
        raise OutputFolderError(
            f"{folder} holds a finished iteration",
            Hint(
                "give another ",
                Option.OUTPUT_DIR,
                ", or pass ",
                Option.OVERWRITE.of(True),
                " to replace it",
            ),
        )
    staging.mkdir(parents=True)
    try:
        yield staging
        carry_over(folder, staging)
        # Better a whole iteration without its record than none, on a disk that is full.
        with contextlib.suppress(OSError):
            keep_attempts(folder, staging)
        if folder.exists():
            folder.rename(retired)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(retired, ignore_errors=True)


def is_finished(folder: Path) -> bool:
    """Return whether a folder holds an iteration that ended well."""
    try:
        return read_record(folder).failure is None
    except OutputFolderError:
        return False


def keep_attempts(folder: Path, fresh: Path) -> None:
    """Put the failed attempts of an iteration into the index of the one that takes its place.

    Args:
        folder: of the iteration as it is; need not exist.
        fresh: of the one that takes its place; where it has no index, nothing is written.

    Raises:
        OSError: the index cannot be written.
    """
    attempts = failed_attempts(folder)
    with contextlib.suppress(OutputFolderError):
        index = read_json(fresh / INDEX)
        if attempts and index:
            forms = [attempt.to_json() for attempt in attempts]
            write_json(fresh / INDEX, {**index, "attempts": forms})


def failed_attempts(folder: Path) -> list[Attempt]:
    """Return the failed attempts of an iteration, the latest last, its present state among them."""
    try:
        record = read_record(folder)
    except OutputFolderError:
        return []
    attempts = list(record.attempts)
    if record.failure is not None:
        ended = time.localtime((folder / INDEX).stat().st_mtime)
        ended_at = time.strftime("%Y-%m-%dT%H:%M:%S%z", ended)
        attempts.append(Attempt(record.failure, ended_at, record.elapsed_seconds))
    return attempts[-MOST_ATTEMPTS:]


def _recover(folder: Path, staging: Path, retired: Path) -> None:
    """Clear what a killed process left; the lock says that it is no living one."""
    if retired.exists() and not folder.exists():
        retired.rename(folder)
    for leftover in (retired, staging):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def carry_over(folder: Path, fresh: Path, *, but: Collection[str] = ARTIFACTS) -> None:
    """Copy what a user has put into a folder to the one that takes its place.

    Args:
        folder: need not exist.
        fresh: takes its place.
        but: names that are not the user's.
    """
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name in but:
            continue
        # A link stays one: what it leads to is not of this folder, and may lead back to it.
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, fresh / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, fresh / entry.name, follow_symlinks=False)


def _unusable(outputs: Path, error: OSError) -> OutputFolderError:
    return OutputFolderError(
        f"{outputs} cannot be used as an output folder: {error.strerror or error} "
        f"({error.filename})",
        Hint("give another ", Option.OUTPUT_DIR, ", or clear what is in the way"),
    )


def _describe_holder(holder: Path) -> str:
    """Say who holds a lock, for people; whatever a folder from elsewhere says there is no fact."""
    try:
        form = load_json(holder, _HOLDER_BYTES, follow=False)
        pid, since = form["pid"], form["since"]
        if type(pid) is int and pid > 0 and _SINCE.fullmatch(since):
            return f"process {pid}, since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return "another process"
