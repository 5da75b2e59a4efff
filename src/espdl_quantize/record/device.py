"""What a board measured, as it lies in an iteration's folder."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from espdl_quantize.core import Json, write_json
from espdl_quantize.record.files import DEVICE

LONGEST_NAME = 200
MOST_LAYERS = 10_000
MOST_RUNS = 10_000
MOST_OUTPUTS = 1_000
_LARGEST = 1e15

Outcome = Literal["passed", "failed"]


@dataclass(frozen=True)
class LayerTime:
    """One layer, run alone."""

    op: str
    op_type: str
    us: float


@dataclass(frozen=True)
class OutputDifference:
    """A recorded output against the board's; the last three are None where nothing differs."""

    name: str
    count: int
    differing: int
    largest: float
    first: int | None = None
    expected: float | None = None
    found: float | None = None


@dataclass(frozen=True)
class Measurement:
    """What a board said of a model; what it did not say is None or empty.

    Attributes:
        chip: what the log says that it is of.
        esp_dl: the version of ESP-DL that the project was written for.
        iteration: the number that the project was written from.
        model_sha256: of model.espdl; "" where the log states one that cannot be read.
        loaded: whether ESP-DL could load the model.
        test: what ``model->test()`` came to.
        problem: why it did not load, did not pass, or ended early, in the board's words.
        outputs: each recorded output against the board's.
        runs_us: time of each whole run.
        layers: time of each layer, in the order of the log.
        internal_bytes: RAM inside the chip that the model takes.
        psram_bytes: PSRAM that the model takes.
        flash_bytes: flash that the model takes.
        board: what the user calls the board.
        weights_in_flash: whether the weights were read from flash.
        complete: whether the project's last line is there; None for another program's log.
    """

    chip: str | None = None
    esp_dl: str | None = None
    iteration: int | None = None
    model_sha256: str | None = None
    loaded: bool | None = None
    test: Outcome | None = None
    problem: str = ""
    outputs: tuple[OutputDifference, ...] = ()
    runs_us: tuple[float, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    internal_bytes: int | None = None
    psram_bytes: int | None = None
    flash_bytes: int | None = None
    board: str | None = None
    weights_in_flash: bool | None = None
    complete: bool | None = None

    @property
    def ms(self) -> float | None:
        """Milliseconds of a run: the median; without runs, the sum of the layers."""
        if self.runs_us:
            return statistics.median(self.runs_us) / 1000.0
        return sum(layer.us for layer in self.layers) / 1000.0 if self.layers else None

    @property
    def first_difference(self) -> str:
        """Name the first recorded output that the board computes otherwise; "" for none."""
        for output in self.outputs:
            if output.differing:
                text = f"{output.differing} of {output.count} numbers of {output.name!r} differ"
                if output.first is not None:
                    text += (
                        f", the first at {output.first}: recorded {_short(output.expected)}, "
                        f"the board has {_short(output.found)}"
                    )
                return f"{text}; the largest difference is {_short(output.largest)}"
        return ""

    @property
    def is_against_the_model(self) -> bool:
        """Whether the board could not load it, crashed, or computes something else."""
        return self.loaded is False or self.test == "failed" or self.complete is False

    def as_json(self) -> Json:
        """Return the content of device.json."""
        return {"format": 1, "ms": self.ms, **asdict(self)}

    def summary(self) -> Json:
        """Return what comparison.json repeats."""
        return {
            "chip": self.chip,
            "ms": self.ms,
            "runs": len(self.runs_us),
            "test": self.test,
            "loaded": self.loaded,
            "internal_bytes": self.internal_bytes,
            "psram_bytes": self.psram_bytes,
            "problem": self.problem or self.first_difference,
        }

    def sentence(self) -> str:
        """Say in one line what the board measured."""
        parts = []
        if self.loaded is False:
            parts.append("the model does not load")
        if self.test == "passed":
            parts.append("its test passed")
        elif self.test == "failed":
            parts.append("its test failed")
        if self.ms is not None:
            how = f"median of {len(self.runs_us)} runs" if self.runs_us else "sum of the layers"
            parts.append(f"{_short(self.ms)} ms per run ({how})")
        for name, size in (
            ("internal RAM", self.internal_bytes),
            ("PSRAM", self.psram_bytes),
            ("flash", self.flash_bytes),
        ):
            if size:
                parts.append(f"{size / 1024:.0f} KiB of {name}")
        if self.complete is False:
            parts.append("the log ends early")
        on = f" ({self.chip})" if self.chip else ""
        sentence = f"Measured on a board{on}: {', '.join(parts) or 'nothing'}."
        reason = self.first_difference or self.problem
        return f"{sentence} {reason}." if reason else sentence


def write_measurement(folder: Path, measurement: Measurement) -> Path:
    """Store a measurement with an iteration, in place of an earlier one."""
    path = folder / DEVICE
    write_json(path, measurement.as_json())
    return path


def parse_measurement(value: object) -> Measurement | None:
    """Return what device.json holds; what is not of the expected type is left out.

    Returns:
        None where the value is no object, or says nothing that is known.
    """
    if not isinstance(value, dict):
        return None
    loaded, complete, test = value.get("loaded"), value.get("complete"), value.get("test")
    iteration, in_flash = value.get("iteration"), value.get("weights_in_flash")
    runs = [number(run) for run in _list(value.get("runs_us"))[:MOST_RUNS]]
    measurement = Measurement(
        chip=_text(value.get("chip")) or None,
        esp_dl=_text(value.get("esp_dl")) or None,
        iteration=iteration if type(iteration) is int else None,
        model_sha256=None if value.get("model_sha256") is None else _text(value["model_sha256"]),
        loaded=loaded if isinstance(loaded, bool) else None,
        test="passed" if test == "passed" else "failed" if test == "failed" else None,
        problem=_text(value.get("problem")),
        outputs=tuple(
            OutputDifference(
                _text(output.get("name")),
                whole(output.get("count")) or 0,
                whole(output.get("differing")) or 0,
                number(output.get("largest")) or 0.0,
                whole(output.get("first")),
                number(output.get("expected"), signed=True),
                number(output.get("found"), signed=True),
            )
            for output in _objects(value.get("outputs"))[:MOST_OUTPUTS]
        ),
        runs_us=tuple(run for run in runs if run is not None),
        layers=tuple(
            LayerTime(_text(layer.get("op")), _text(layer.get("op_type")), us)
            for layer in _objects(value.get("layers"))[:MOST_LAYERS]
            if (us := number(layer.get("us"))) is not None
        ),
        internal_bytes=whole(value.get("internal_bytes")),
        psram_bytes=whole(value.get("psram_bytes")),
        flash_bytes=whole(value.get("flash_bytes")),
        board=_text(value.get("board")) or None,
        weights_in_flash=in_flash if isinstance(in_flash, bool) else None,
        complete=complete if isinstance(complete, bool) else None,
    )
    return None if measurement == Measurement() else measurement


def number(value: object, *, signed: bool = False) -> float | None:
    """Return a finite number of a size that can be meant; a negative one only where ``signed``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not -_LARGEST <= value <= _LARGEST or (value < 0 and not signed):
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: object) -> int | None:
    """Return a count."""
    count = number(value) if isinstance(value, int) else None
    return None if count is None else int(count)


def clean(text: str) -> str:
    """Return text from a log on one line, without control characters, cut to a name's length."""
    line = "".join(each if each.isprintable() else " " for each in text[: 4 * LONGEST_NAME])
    return line.strip()[:LONGEST_NAME]


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return clean(value.encode("utf-8", "replace").decode("utf-8"))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
