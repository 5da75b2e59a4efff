"""A made-up network: how its metric, its errors and its times answer to a setting."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.core import Direction, EspdlQuantizeError, IterationError, Strategy
from espdl_quantize.record import (
    Evidence,
    Failure,
    HotOp,
    IterationRecord,
    LayerError,
    locked,
    read_record,
    staged,
)
from espdl_quantize.search import int16_ops, split_layers
from espdl_quantize.setting import Setting, canonical, setting_key
from espdl_quantize.tuning import BackendFacts, Observer
from tests.search.made_runs import evidence, run, weight, write_run

FLOAT = 0.82
_LAYERS = {"conv0": 0.30, "conv1": 0.12, "conv2": 0.08, "conv3": 0.06, "conv4": 0.05, "conv5": 0.04}
_CALIBRATION = {"kl": 0.0, "mse": 0.03, "percentile": 0.02, "minmax": -0.02}


def response(setting: Setting) -> float:
    """A plausible top-1: training wins most, percentile wins once equalization is on too."""
    form = canonical(setting)
    value = 0.60 + _CALIBRATION[form["calib_algorithm"]]
    tqt = form.get("tqt_optimization")
    if tqt:
        value += 0.12 + 0.004 * math.log2(tqt["steps"] / 500)
        value -= 0.01 * abs(math.log10(tqt["lr"] / 2e-5))
        value += 0.006 if tqt["block_size"] in (2, 3) else 0.0
    if "equalization" in form:
        value += 0.02 if form["equalization"]["opt_level"] == 2 else 0.005
        value += 0.03 if form["calib_algorithm"] == "percentile" else 0.0
    if "bias_correct" in form:
        value += 0.004
    if "blockwise_reconstruction" in form:
        value += 0.008
    if "fusion_alignment" in form:
        value -= 0.004
    value += sum(0.08 * _LAYERS.get(op, 0.0) for op in int16_ops(setting))
    value += 0.001 * len(split_layers(setting))
    # What training on another scale leaves to chance, the same for the same setting.
    value += (int(setting_key(setting)[:6], 16) % 7 - 3) * 2e-4
    return round(min(value, FLOAT), 6)


def found_of(setting: Setting) -> Evidence:
    """Artifacts: ops with 16 bits have next to no error, training lowers all of it."""
    trained = 0.4 if "tqt_optimization" in canonical(setting) else 1.0
    fine = set(int16_ops(setting))
    errors = {op: snr * trained * (0.01 if op in fine else 1.0) for op, snr in _LAYERS.items()}
    layers = [LayerError(op, snr) for op, snr in sorted(errors.items(), key=lambda row: -row[1])]
    return evidence(
        layerwise=tuple(layers),
        stats=(weight("conv1", 14.0), weight("conv3", 11.0)),
        hot_ops=(HotOp("add_1", "Add", 0.25 * trained, 2.0),),
    )


def seconds_of(setting: Setting) -> float:
    form = canonical(setting)
    seconds = 60.0 + 0.12 * form.get("tqt_optimization", {}).get("steps", 0)
    steps = form.get("blockwise_reconstruction", {}).get("steps", 0)
    return float(seconds + 0.10 * steps)


@dataclass
class FakeBackend:
    """Computes what :class:`RecordedBackend` would read.

    ``scripted`` holds what happens at the n-th run instead: an exception to raise. ``fault`` finds
    one for a setting.
    """

    score: Any = response
    direction: str = "max"
    target: float | None = None
    scripted: Mapping[int, BaseException] = field(default_factory=dict)
    runs: list[Setting] = field(default_factory=list)
    seconds: float = 0.0
    found: Any = found_of
    pool: tuple[Setting, ...] | None = None
    stage: str = "quantize"
    strategy: Strategy | None = Strategy.SEED
    """Whose rules its scores are made for; None for the default of a search."""
    contract_key: str | None = None
    fault: Callable[[Setting], BaseException | None] = lambda setting: None

    @property
    def facts(self) -> BackendFacts:
        return BackendFacts(
            metric="top1",
            direction=Direction(self.direction),
            model_name="tiny",
            target_chip="esp32p4",
            target=self.target,
            pool=self.pool,
            contract_key=self.contract_key,
            num_of_bits=8,
            strategy=self.strategy,
        )

    def clock(self) -> float:
        return self.seconds

    def run(self, setting: Setting, folder: Path, progress: Any, **_: Any) -> IterationRecord:
        number = len(self.runs)
        self.runs.append(setting)
        self.seconds += seconds_of(setting)
        error = self.scripted.get(number) or self.fault(setting)
        if error is not None and not isinstance(error, EspdlQuantizeError):
            raise error
        value = None if error is not None else self.score(setting)
        with locked(folder.parent), staged(folder) as staging:
            self._write(setting, value, staging, error)
        if value is None:
            raise error or IterationError("out of memory", "take a smaller batch")
        return read_record(folder)

    def _write(
        self, setting: Setting, value: float | None, staging: Path, error: BaseException | None
    ) -> None:
        sign = 1 if self.direction == "max" else -1
        row = run(
            setting.iteration_id,
            value,
            setting,
            direction=self.direction,
            target=self.target,
        )
        index: dict[str, Any] = {
            "elapsed_seconds": seconds_of(setting),
            "elapsed_by_stage": {},
            "contract_key": self.contract_key,
            "float_value": sign * FLOAT,
        }
        if isinstance(error, EspdlQuantizeError):
            index["error"] = Failure.of(self.stage, error).to_json()
        scratch = staging / "scratch"
        written = write_run(scratch, row, self.found(setting), **index)
        for file in written.iterdir():
            file.rename(staging / file.name)
        written.rmdir()
        scratch.rmdir()


def mirrored(setting: Setting) -> float:
    return -response(setting)


def hashed(values: list[float | None], salt: str) -> Callable[[Setting], float | None]:
    """A metric without rhyme or reason, out of a few values."""

    def score(setting: Setting) -> float | None:
        digest = hashlib.sha256((salt + setting_key(setting)).encode()).digest()
        return values[digest[0] % len(values)]

    return score


class Notes(Observer):
    """Keeps what a search says beside its steps."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def notice(self, text: str) -> None:
        self.notes.append(text)
