"""From an output folder to a board and back: which iteration is deployed, which was measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

from espdl_quantize.core import EspdlQuantizeError, Hint, Option, OutputFolderError, UsageError
from espdl_quantize.deploy import (
    Project,
    ProjectOptions,
    board_of,
    read_log,
    write_project,
)
from espdl_quantize.record import (
    History,
    Iteration,
    Measurement,
    read_history,
    write_measurement,
)
from espdl_quantize.record.files import INDEX


def deploy(folder: Path, project: Path, options: ProjectOptions | None = None) -> Project:
    """Write an ESP-IDF project that runs, tests and measures a model.

    Args:
        folder: an output folder, whose best is taken, or an iteration's folder, or best/.
        project: a new or empty folder.
        options: what is not as on a usual board.

    Raises:
        EspdlQuantizeError: there is nothing to deploy, it does not fit, or the project's folder is
            taken; nothing was written.
    """
    return write_project(_iteration(folder), project, options)


def record_log(
    outputs: Path, log: Path, iteration: int | None = None
) -> tuple[Iteration, Path, Measurement]:
    """Read the serial log of a board, and store what it measured with the iteration that it ran.

    Args:
        outputs: the output folder.
        log: the file.
        iteration: whose model it was, where the log does not say; without it, the best.

    Returns:
        The iteration, the file that was written, and what is in it.

    Raises:
        OutputFolderError: the folder or the log cannot be read, or the file not be written.
        EspdlQuantizeError: the log says nothing, or is of another model or chip.
    """
    found = read_log(log)
    history = read_history(outputs)
    row = _measured(history, found, iteration)
    _check_chip(row, found)
    if not row.folder.resolve().is_relative_to(outputs.resolve()):
        raise OutputFolderError(
            f"{row.folder} is a link that leads out of {outputs}; nothing is written there",
            "give the output folder that holds the iteration itself",
        )
    try:
        return row, write_measurement(row.folder, found), found
    except OSError as error:
        raise OutputFolderError(
            f"{row.folder} cannot be written: {error.strerror or error}",
            "check the permissions and the free space of the output folder",
        ) from error


def _iteration(folder: Path) -> Path:
    if (folder / INDEX).is_file():
        return folder
    best = read_history(folder).best
    if best is None:
        raise OutputFolderError(
            f"{folder} is no iteration and holds none with a score", "run one first"
        )
    return best.folder


def _measured(history: History, found: Measurement, iteration: int | None) -> Iteration:
    rows = {row.id: row for row in (*history.iterations, *history.excluded)}
    if iteration is not None and iteration not in rows:
        raise UsageError(
            f"{history.folder} has no iter_{iteration}",
            f"it has {', '.join(row.name for row in rows.values()) or 'none'}",
        )
    if found.model_sha256 is None:
        row = history.best if iteration is None else rows[iteration]
        if row is None:
            raise OutputFolderError(
                f"{history.folder} has no iteration with a score",
                Hint("name one with ", Option.ITERATION),
            )
        return row
    # The one that the log names comes first: others may have the same model.
    named = iteration if iteration is not None else found.iteration
    candidates = sorted(rows.values(), key=lambda row: row.id != named)
    if iteration is not None:
        candidates = candidates[:1]
    for row in candidates:
        if _digest(row.folder / "model.espdl") == found.model_sha256:
            return row
    where = f"iter_{iteration}" if iteration is not None else f"any iteration of {history.folder}"
    raise EspdlQuantizeError(
        f"the log is of the model {found.model_sha256[:12]}..., which is not that of {where}",
        "give the output folder that it was deployed from; an iteration that was run again may "
        "have another model",
    )


def _check_chip(row: Iteration, found: Measurement) -> None:
    if found.chip is None or row.target_chip is None:
        return
    try:
        board_of(row.target_chip, found.chip)
    except UsageError as error:
        raise EspdlQuantizeError(
            f"the log is of {found.chip}, and {row.name} is for {row.target_chip}: {error.cause}",
            "give the log of a board with that chip",
        ) from error


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
