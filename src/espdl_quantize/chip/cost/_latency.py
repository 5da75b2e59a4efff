"""Milliseconds from work: constants per chip, how sure they are, and a board that corrects them.

A prediction is the sum over ops and kinds of work of count times constant. The constants are kept
as logarithms with a covariance, as the fit (``python -m benchmarks.latency``) leaves them: an op
that rests on what the published models say little about gets a wider interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from espdl_quantize.chip.cost._work import KINDS, Caches, Operation, Work
from espdl_quantize.core import EspdlQuantizeError, Json, UsageError, load_json

_FILE = Path(__file__).parent / "constants.json"
_TWO_CORES = 0.15
"""Standard deviation, of the logarithm, that a second core adds: one network is published so."""
_ONE_MEMORY = 0.7
"""Standard deviation, of the logarithm, by which boards' PSRAM, flash and caches differ."""
_ONE_CHIP, _ONE_TOTAL, _ONE_LAYER = 0.5, 0.03, 0.2
"""Standard deviations, of logarithms: of a board's speed against the published one, of a measured
total, and of what the model's structure leaves unexplained in one layer."""


class CalibrationError(EspdlQuantizeError):
    """A calibration cannot be read, or measurements do not fit the model."""


@dataclass(frozen=True)
class Deployment:
    """How a model runs on the chip.

    Attributes:
        cores: 1, as the runtime does by default, or 2 (``RUNTIME_MODE_MULTI_CORE``).
        weights_in_flash: whether the weights stay in flash (``param_copy`` false) instead of being
            copied to PSRAM.
        internal_bytes: of internal RAM that the activations may use (``max_internal_size``).
    """

    cores: int = 1
    weights_in_flash: bool = False
    internal_bytes: int = 0

    def __post_init__(self) -> None:
        if self.cores not in (1, 2):
            raise UsageError(f"cores is {self.cores}, expected 1 or 2")
        if self.internal_bytes < 0:
            raise UsageError(f"internal RAM is {self.internal_bytes} bytes, expected 0 or more")


@dataclass(frozen=True)
class Constants:
    """What one unit of each kind of work takes on a chip.

    Attributes:
        chip: its name.
        source: "published figures", or what board they were calibrated on.
        absolute: whether milliseconds can be told; else only shares of the whole.
        nanoseconds: of one unit, by kind.
        caches: the chip's.
        covariance: of the logarithms of the constants, in the order of ``KINDS``.
        spread: standard deviation of what the model leaves unexplained, of the logarithm.
        interval_factor: half the width of the interval, in standard deviations.
        cores: how many the chip has.
        second_core: share of the weights read again that two cores save, as one finds in the cache
            what the other has just read.
        residual: of a calibration: root mean square of the logarithm's error on the measurements.
        flash_calibrated: of a calibration: whether the weights were read from flash.
    """

    chip: str
    source: str
    absolute: bool
    nanoseconds: Mapping[str, float]
    caches: Caches
    covariance: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    spread: float = 0.0
    interval_factor: float = 1.645
    cores: int = 1
    second_core: float = 0.0
    residual: float | None = None
    flash_calibrated: bool | None = None

    def milliseconds(self, work: Work) -> float:
        """Return the prediction for some work, on one core."""
        return sum(count * self.nanoseconds[kind] for kind, count in work.items()) / 1e6

    def interval(self, work: Work, milliseconds: float, cores: int = 1) -> tuple[float, float]:
        """Return from where to where nine of ten models come out."""
        total = self.milliseconds(work)
        variance = self.spread**2 + (_TWO_CORES**2 if cores > 1 else 0.0)
        if total > 0 and self.covariance:
            slope = [work[kind] * self.nanoseconds[kind] / 1e6 / total for kind in KINDS]
            for left, line in zip(slope, self.covariance, strict=True):
                variance += left * sum(a * b for a, b in zip(line, slope, strict=True))
        factor = math.exp(self.interval_factor * math.sqrt(max(variance, 0.0)))
        return milliseconds / factor, milliseconds * factor

    def to_json(self) -> Json:
        """Return what :func:`constants_of_json` reads."""
        return {
            "chip": self.chip,
            "source": self.source,
            "absolute": self.absolute,
            "nanoseconds": dict(self.nanoseconds),
            "caches": {"data": self.caches.data, "inner": self.caches.inner},
            "covariance": [list(line) for line in self.covariance],
            "spread": self.spread,
            "interval_factor": self.interval_factor,
            "cores": self.cores,
            "second_core": self.second_core,
            "residual": self.residual,
            "flash_calibrated": self.flash_calibrated,
        }


def constants_of_json(value: Any) -> Constants:
    """Read constants that :meth:`Constants.to_json` wrote.

    Raises:
        CalibrationError: a field is missing, or is no number that makes sense.
    """
    try:
        nanoseconds = {kind: float(value["nanoseconds"][kind]) for kind in KINDS}
        covariance = tuple(tuple(map(float, line)) for line in value["covariance"])
        residual, in_flash = value.get("residual"), value.get("flash_calibrated")
        made = Constants(
            chip=str(value["chip"]),
            source=str(value["source"]),
            absolute=bool(value["absolute"]),
            nanoseconds=nanoseconds,
            caches=Caches(int(value["caches"]["data"]), int(value["caches"]["inner"])),
            covariance=covariance,
            spread=float(value["spread"]),
            interval_factor=float(value["interval_factor"]),
            cores=int(value["cores"]),
            second_core=float(value["second_core"]),
            residual=None if residual is None else float(residual),
            flash_calibrated=None if in_flash is None else bool(in_flash),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CalibrationError(
            f"these are no constants of a chip: {type(error).__name__}: {error}",
            "write them with Constants.to_json()",
        ) from error
    numbers = [*nanoseconds.values(), made.spread, made.interval_factor, made.second_core]
    numbers += [number for line in covariance for number in line]
    square = all(len(line) == len(KINDS) for line in covariance)
    if not all(map(math.isfinite, numbers)) or min(nanoseconds.values()) < 0:
        raise CalibrationError("a constant is negative or no finite number")
    if covariance and not (square and len(covariance) == len(KINDS)):
        raise CalibrationError(f"the covariance is not {len(KINDS)} by {len(KINDS)}")
    if made.caches.data <= 0 or made.caches.inner < 0:
        raise CalibrationError(f"the caches are {made.caches}, expected sizes in bytes")
    return made


def load_constants(file: Path) -> Constants:
    """Read a calibration from a JSON file.

    Raises:
        CalibrationError: it cannot be read, or holds none.
    """
    try:
        return constants_of_json(load_json(file))
    except OSError as error:
        raise CalibrationError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CalibrationError(f"{file} is no calibration: {error}") from error


@cache
def _shipped() -> dict[str, Constants]:
    return {
        name: constants_of_json({"chip": name, **value})
        for name, value in load_json(_FILE)["chips"].items()
    }


def cost_chips() -> tuple[str, ...]:
    """Return the chips that costs can be told for."""
    return tuple(_shipped())


def shipped_constants(chip: str) -> Constants:
    """Return the constants that come with this package.

    Raises:
        UsageError: there are none for the chip.
    """
    if chip not in _shipped():
        raise UsageError(
            f"{chip!r} is no chip whose costs are known", f"give one of {', '.join(_shipped())}"
        )
    return _shipped()[chip]


COMPUTED = frozenset(
    {"mac8", "mac8_ragged", "mac16", "mac16_ragged", "group", "pixel", "depthwise", "inner"}
)
"""Kinds of work that two cores do in half the time."""
READ_AGAIN = frozenset({"flash", "psram"})
IN_MEMORY = READ_AGAIN | {"moved"}
"""Kinds of work that a board's memory decides about."""


def layer_milliseconds(
    operation: Operation, work: Work, constants: Constants, deployment: Deployment
) -> float:
    """Return the prediction for one op.

    With two cores the runtime shares out only a Conv whose input is more than four windows high,
    by its rows; PSRAM and flash serve both cores, so that what goes over them takes about as long.
    """
    whole = constants.milliseconds(work)
    if deployment.cores == 1 or not is_split(operation):
        return whole
    computed = sum(work[kind] * constants.nanoseconds[kind] for kind in COMPUTED) / 1e6
    again = sum(work[kind] * constants.nanoseconds[kind] for kind in READ_AGAIN) / 1e6
    return whole - computed / 2 - constants.second_core * again


def is_split(operation: Operation) -> bool:
    """Whether two cores share the op."""
    if operation.op_type != "Conv" or not operation.kernel:
        return False
    height = operation.inputs[0].shape[1] if len(operation.inputs[0].shape) == 4 else 1
    window = operation.kernel[0] if len(operation.kernel) > 1 else 1
    return height > 4 * operation.dilation * window


@dataclass(frozen=True)
class Measurement:
    """What a board measured of one model, or of one layer of it.

    Attributes:
        work: of the model or layer.
        milliseconds: measured, on one core.
        is_layer: whether it is one layer.
    """

    work: Work
    milliseconds: float
    is_layer: bool = False


def calibrated(
    constants: Constants,
    measurements: Sequence[Measurement],
    board: str,
    weights_in_flash: bool = False,
) -> Constants:
    """Correct a chip's constants by what a board measured.

    The published constants are taken as a guess with their covariance, the board's memory as of
    another speed, and its clock as one factor on all of them; each measurement moves these as far
    as it is surer than they are. So one total rescales everything, and a profile by layers tells
    the kinds apart.

    Args:
        constants: of the chip.
        measurements: totals of models, layers, or both.
        board: what it is called in the source.
        weights_in_flash: whether the weights were read from flash.

    Raises:
        CalibrationError: there are none, one is not positive, or has no work.
    """
    import numpy as np

    usable = [
        measurement for measurement in measurements if constants.milliseconds(measurement.work) > 0
    ]
    if not usable:
        raise CalibrationError("nothing was measured that the model predicts a time for")
    for measurement in usable:
        if not (math.isfinite(measurement.milliseconds) and measurement.milliseconds > 0):
            raise CalibrationError(
                f"a measured time is {measurement.milliseconds} ms, expected more than 0"
            )
    kinds = list(KINDS)
    start = np.array([max(constants.nanoseconds[kind], 1e-9) for kind in kinds])
    counts = np.array([[measurement.work[kind] for kind in kinds] for measurement in usable]) / 1e6
    measured = np.log([measurement.milliseconds for measurement in usable])
    deviation = np.array(
        [_ONE_LAYER if measurement.is_layer else _ONE_TOTAL for measurement in usable]
    )
    size = len(kinds)
    prior = np.array(constants.covariance) if constants.covariance else 0.25 * np.eye(size)
    if constants.residual is None:
        for place, kind in enumerate(kinds):
            prior[place, place] += _ONE_MEMORY**2 if kind in IN_MEMORY else 0.0
    # The last of the unknowns is the board's speed, which all constants share.
    precision = np.zeros((size + 1, size + 1))
    precision[:size, :size] = np.linalg.inv(prior + 1e-9 * np.eye(size))
    precision[size, size] = 1 / _ONE_CHIP**2
    moved = np.zeros(size + 1)

    def look(at: Any) -> tuple[Any, Any]:
        parts = counts * (start * np.exp(at[:size] + at[size]))
        totals = parts.sum(axis=1)
        slopes = np.hstack([parts / totals[:, None], np.ones((len(totals), 1))])
        return np.log(totals) - measured, slopes

    for _ in range(100):
        error, slope = look(moved)
        scaled = slope / deviation[:, None] ** 2
        step = np.linalg.solve(
            scaled.T @ slope + precision, -(scaled.T @ error) - precision @ moved
        )
        moved = moved + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    error, slope = look(moved)
    inside = np.linalg.inv((slope / deviation[:, None] ** 2).T @ slope + precision)
    spread_out = np.hstack([np.eye(size), np.ones((size, 1))])
    covariance = spread_out @ inside @ spread_out.T
    values = start * np.exp(moved[:size] + moved[size])
    residual = float(np.sqrt(np.mean(error**2)))
    return replace(
        constants,
        source=f"calibrated on {board}",
        absolute=True,
        nanoseconds=dict(zip(kinds, map(float, values), strict=True)),
        covariance=tuple(tuple(map(float, line)) for line in covariance),
        spread=min(max(residual, _ONE_TOTAL), constants.spread or residual),
        residual=residual,
        flash_calibrated=weights_in_flash,
    )
