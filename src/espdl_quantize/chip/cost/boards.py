"""The costs of an output folder's iterations, by what its boards measured where any did.

Serial logs of boards lie with the iterations that they measured (``device.json``). Those of one
chip, one board and one flash mode correct the constants of the chip, and every iteration of the
folder is predicted with these. A log that does not fit its model is left out, and said so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from espdl_quantize.chip.cost._cost import ChipCost, cost_of, total_of, works_of
from espdl_quantize.chip.cost._latency import (
    CalibrationError,
    Constants,
    Deployment,
    Measurement,
    calibrated,
    shipped_constants,
)
from espdl_quantize.chip.cost._work import Work
from espdl_quantize.core import EspdlQuantizeError, write_json
from espdl_quantize.record import History, Iteration, model_digest, read_history
from espdl_quantize.record import Measurement as Measured
from espdl_quantize.record.files import CHIP_COST, MODEL

_FARTHEST, _FARTHEST_UNPUBLISHED = 5.0, 20.0
"""How many times a board may be quicker or slower than predicted before its log is taken to be of
something else: a debug build on PSRAM of one line takes about four times as long. Where nothing is
published of the chip, the guess is that much worse."""
_ODD_LAYER = 10.0
"""The same of one layer, against the median of all layers."""
_LARGEST_RESIDUAL = 0.5
"""Root mean square of the logarithm's error, above which the measurements do not fit the model."""


@dataclass(frozen=True)
class Calibration:
    """What to predict an output folder's iterations with.

    Attributes:
        chip: the chip that is predicted for.
        constants: None for those of the published figures.
        deployment: as the board ran.
        notes: which logs were left out, and why.
    """

    chip: str
    constants: Constants | None = None
    deployment: Deployment = field(default_factory=Deployment)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Group:
    chip: str
    board: str
    in_flash: bool


def calibration_of(history: History, chip: str) -> Calibration:
    """Correct the constants of a chip by all that boards measured of an output folder's models.

    Where several boards or flash modes were measured, the one with the most iterations counts, of
    equals that with the weights in PSRAM, then the latest.

    Args:
        history: of the folder.
        chip: the contract's target.
    """
    by_group: dict[_Group, list[Iteration]] = {}
    notes: list[str] = []
    for record in (*history.iterations, *history.excluded):
        if record.device is None or (record.device.ms is None and not record.device.layers):
            continue
        problem = _unusable(record, chip)
        if problem:
            notes.append(f"the log of {record.name} is left out of the calibration: {problem}")
            continue
        device = record.device
        ran_on = device.chip or chip
        group = _Group(ran_on, device.board or ran_on, device.weights_in_flash is True)
        by_group.setdefault(group, []).append(record)
    ordered = sorted(
        by_group.items(), key=lambda item: (-len(item[1]), item[0].in_flash, -item[1][-1].id)
    )
    for group, records in ordered:
        try:
            constants, left_out = _constants(group, records)
        except EspdlQuantizeError as error:
            notes.append(
                f"the logs of {group.board} are left out of the calibration: {error.cause}"
            )
            continue
        deployment = Deployment(weights_in_flash=group.in_flash)
        return Calibration(group.chip, constants, deployment, (*notes, *left_out))
    return Calibration(chip, notes=tuple(notes))


def cost_in(calibration: Calibration, file: Path) -> ChipCost:
    """Tell what a file costs, by the calibration of its output folder; see :func:`cost_of`."""
    return cost_of(file, calibration.chip, calibration.deployment, calibration.constants)


def keep_costs(outputs: Path, *, again: bool = False) -> list[str]:
    """Write what each iteration costs beside its model, where that is not known yet.

    Args:
        outputs: the output folder.
        again: also where it is known, since a board has measured something new.

    Returns:
        What could not be done, and which logs were left out, in words.
    """
    history = read_history(outputs)
    missing = [
        record
        for record in history.iterations
        if (record.folder / MODEL).is_file() and (again or record.cost is None)
    ]
    notes: dict[str, None] = {}
    calibrations: dict[str, Calibration] = {}
    for record in missing:
        if record.target_chip is None:
            notes[f"{record.name} does not say its chip: what it costs there is not known"] = None
            continue
        if record.target_chip not in calibrations:
            calibrations[record.target_chip] = calibration_of(history, record.target_chip)
        calibration = calibrations[record.target_chip]
        notes.update(dict.fromkeys(calibration.notes))
        try:
            cost = cost_in(calibration, record.folder / MODEL)
            write_json(record.folder / CHIP_COST, cost.to_json())
        except EspdlQuantizeError as error:
            notes[f"what {record.name} costs on the chip is not known: {error.cause}"] = None
        except OSError as error:
            reason = error.strerror or error
            notes[f"what {record.name} costs cannot be written: {reason}"] = None
    return list(notes)


def _unusable(record: Iteration, chip: str) -> str:
    """Say why a log tells nothing of the chip's speed; empty where it does."""
    device = record.device
    assert device is not None
    if device.is_against_the_model:
        return "the board could not load, end or compute the model"
    if chip not in (device.chip, record.target_chip) or (
        device.chip is not None and chip not in (device.chip, "c")
    ):
        return f"it is of {device.chip or record.target_chip}"
    digest = model_digest(record.folder / MODEL)
    if digest is None:
        return "its model is not there any more"
    if device.model_sha256 is not None and device.model_sha256 != digest:
        return "it is of another model"
    return ""


def _constants(group: _Group, records: list[Iteration]) -> tuple[Constants, list[str]]:
    shipped = shipped_constants(group.chip)
    deployment = Deployment(weights_in_flash=group.in_flash)
    notes: list[str] = []
    measured: list[Measurement] = []
    for record in records:
        try:
            measured += _fitting(shipped, record, deployment)
        except EspdlQuantizeError as error:
            notes.append(f"the log of {record.name} is left out of the calibration: {error.cause}")
    if not measured:
        raise CalibrationError("; ".join(notes) or "nothing was measured")
    where = ", its weights in flash" if group.in_flash else ""
    named = "" if group.board == group.chip else f" ({group.board}{where})"
    constants = calibrated(
        shipped,
        measured,
        f"your board{named or (f' ({where[2:]})' if where else '')}",
        group.in_flash,
    )
    if constants.residual is None or constants.residual > _LARGEST_RESIDUAL:
        raise CalibrationError(
            f"what it measured does not fit the models: the residual is "
            f"{math.expm1(constants.residual or math.inf):.0%}"
        )
    return constants, notes


def _fitting(
    constants: Constants, record: Iteration, deployment: Deployment
) -> Iterator[Measurement]:
    """Yield what a log says of a model, less what cannot be of it.

    Raises:
        CalibrationError: nothing of it can be.
    """
    device = record.device
    assert device is not None
    works = works_of(constants, record.folder / MODEL, deployment)
    whole = total_of(works.values())
    predicted, total = constants.milliseconds(whole), device.ms
    if total is None or not total > 0 or predicted <= 0:
        raise CalibrationError("it has no time of the model")
    farthest = _FARTHEST if constants.absolute else _FARTHEST_UNPUBLISHED
    if not 1 / farthest <= total / predicted <= farthest:
        raise CalibrationError(
            f"it says {total:.4g} ms, and {predicted:.4g} ms are predicted: such a difference is "
            "another model, another clock or a build for debugging"
        )
    yield Measurement(whole, total)
    yield from _layers(constants, device, works, total)


def _layers(
    constants: Constants, device: Measured, works: dict[str, Work], total: float
) -> Iterator[Measurement]:
    """Yield the layers of a log that has those of the model, in about the time of the whole."""
    timed = {layer.op: layer.us / 1000.0 for layer in device.layers if layer.us > 0}
    known = {
        name: (time, predicted)
        for name, time in timed.items()
        if name in works and (predicted := constants.milliseconds(works[name])) > 0
    }
    if not known or 2 * len(known) < len(timed) or not 0.5 <= sum(timed.values()) / total <= 2:
        return
    middle = statistics.median(time / predicted for time, predicted in known.values())
    for name, (time, predicted) in known.items():
        if 1 / _ODD_LAYER <= time / predicted / middle <= _ODD_LAYER:
            yield Measurement(works[name], time, is_layer=True)
