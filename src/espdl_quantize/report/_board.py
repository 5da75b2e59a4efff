"""From an output folder to a board and back: which iteration is deployed, which was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    model_digest,
    read_history,
    write_measurement,
)
from espdl_quantize.record.cost import read_cost
from espdl_quantize.record.device import clean
from espdl_quantize.record.files import INDEX, MODEL, iteration_name
from espdl_quantize.worker.costs import has_models, keep_costs_apart


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


@dataclass(frozen=True)
class RecordedLog:
    """A board's log, stored.

    Attributes:
        iteration: whose model it measured.
        path: the file that was written.
        measurement: what is in it.
        notes: what the predictions of the folder's costs make of it.
    """

    iteration: Iteration
    path: Path
    measurement: Measurement
    notes: tuple[str, ...] = ()


def record_log(
    outputs: Path, log: Path, iteration: int | None = None, *, board: str | None = None
) -> RecordedLog:
    """Read the serial log of a board, and store what it measured with the iteration that it ran.

    What the models of the folder cost is predicted anew, by the board.

    Args:
        outputs: the output folder.
        log: the file.
        iteration: whose model it was, where the log does not say; without it, the best.
        board: what to call the board, where there are several with the same chip.

    Returns:
        The iteration, the file that was written, what is in it, and what it made of the costs.

    Raises:
        OutputFolderError: the folder or the log cannot be read, or the file not be written.
        EspdlQuantizeError: the log says nothing, or is of another model or chip.
    """
    measurement = replace(read_log(log), board=clean(board or "") or None)
    history = read_history(outputs)
    record = _measured(history, measurement, iteration)
    _check_chip(record, measurement)
    if not record.folder.resolve().is_relative_to(outputs.resolve()):
        raise OutputFolderError(
            f"{record.folder} is a link that leads out of {outputs}; nothing is written there",
            "give the output folder that holds the iteration itself",
        )
    try:
        known = measurement.model_sha256 or None
        measurement = replace(measurement, model_sha256=known)
        written = write_measurement(record.folder, measurement)
    except OSError as error:
        raise OutputFolderError(
            f"{record.folder} cannot be written: {error.strerror or error}",
            "check the permissions and the free space of the output folder",
        ) from error
    notes: list[str] = []
    if has_models(history):
        notes += keep_costs_apart(outputs, again=True)
        now, _ = read_cost(record.folder)
        notes += [] if now is None else list(now.notes)
    return RecordedLog(record, written, measurement, tuple(dict.fromkeys(notes)))


def _iteration(folder: Path) -> Path:
    if (folder / INDEX).is_file():
        return folder
    best = read_history(folder).best
    if best is None:
        raise OutputFolderError(
            f"{folder} is no iteration and holds none with a score", "run one first"
        )
    return best.folder


def _measured(history: History, measurement: Measurement, iteration: int | None) -> Iteration:
    records = {record.id: record for record in (*history.iterations, *history.excluded)}
    if iteration is not None and iteration not in records:
        raise UsageError(
            f"{history.folder} has no {iteration_name(iteration)}",
            f"it has {', '.join(record.name for record in records.values()) or 'none'}",
        )
    if measurement.model_sha256 == "" and iteration is None:
        raise EspdlQuantizeError(
            "the line of the log that says which model ran (espdlq begin ... sha256=...) is torn",
            Hint("record it once more; or name the iteration that ran with ", Option.ITERATION),
        )
    if not measurement.model_sha256:
        record = history.best if iteration is None else records[iteration]
        if record is None:
            raise OutputFolderError(
                f"{history.folder} has no iteration with a score",
                Hint("name one with ", Option.ITERATION),
            )
        return record
    # The one that the log names comes first: others may have the same model.
    named = iteration if iteration is not None else measurement.iteration
    candidates = sorted(records.values(), key=lambda record: record.id != named)
    if iteration is not None:
        candidates = candidates[:1]
    for record in candidates:
        if model_digest(record.folder / MODEL) == measurement.model_sha256:
            return record
    where = (
        iteration_name(iteration) if iteration is not None else f"any iteration of {history.folder}"
    )
    raise EspdlQuantizeError(
        f"the log is of the model {measurement.model_sha256[:12]}..., which is not that of {where}",
        "give the output folder that it was deployed from; an iteration that was run again may "
        "have another model",
    )


def _check_chip(record: Iteration, measurement: Measurement) -> None:
    if measurement.chip is None or record.target_chip is None:
        return
    try:
        board_of(record.target_chip, measurement.chip)
    except UsageError as error:
        raise EspdlQuantizeError(
            f"the log is of {measurement.chip}, and {record.name} is for {record.target_chip}: "
            f"{error.cause}",
            "give the log of a board with that chip",
        ) from error
