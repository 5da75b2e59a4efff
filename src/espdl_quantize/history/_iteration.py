"""One finished iteration, as its folder tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from espdl_quantize.contract import Origin
from espdl_quantize.setting import Setting

Direction = Literal["max", "min"]
Priority = Literal["balanced", "speed", "pc_time"]


@dataclass(frozen=True)
class LayerError:
    """One op and its isolated noise:signal power ratio; None where it was not a finite number."""

    op: str
    snr: float | None


@dataclass(frozen=True)
class Failure:
    """Why an iteration has no score."""

    stage: str
    cause: str
    mend: str = ""

    def __str__(self) -> str:
        told = f"{self.stage}: {self.cause}" if self.stage else self.cause
        return f"{told} -> {self.mend}" if self.mend else told


@dataclass(frozen=True)
class Iteration:
    """A row of the history.

    Attributes:
        id: the number in the folder's name, which is the identity of an iteration.
        folder: where its artifacts lie.
        setting: what was asked for; None where setting.json is missing or not valid.
        value: the primary metric; None where the iteration failed or scored no finite number.
        metric: name of the primary metric.
        direction: whether a larger or a smaller value is better; None where the folder is silent.
        target: the value to reach, if the contract sets one.
        failure: why there is no value.
        evaluated_by: the contract's function that scored it, "evaluate" or "evaluate_fast".
        float_value: the float model's score on the same images.
        float_reference_key: stands for the contract and the float model that it was run with.
        metrics: everything that the contract's function returned.
        warnings: what was said while the setting was applied.
        elapsed_seconds: how long it took.
        seconds_saved: how much longer it would have taken without the results of earlier ones.
    """

    id: int
    folder: Path = Path()
    setting: Setting | None = None
    value: float | None = None
    metric: str | None = None
    direction: Direction | None = None
    target: float | None = None
    failure: Failure | None = None
    rationale: str = ""
    evaluated_by: str | None = None
    float_value: float | None = None
    float_reference_key: str | None = None
    elapsed_seconds: float | None = None
    elapsed_by_stage: Mapping[str, float] = field(default_factory=dict)
    seconds_saved: float = 0.0
    top_5_error_layers: tuple[LayerError, ...] = ()
    non_computing_hot_ops_count: int | None = None
    graphwise_jumps_count: int | None = None
    contract_path: str | None = None
    model_name: str | None = None
    target_chip: str | None = None
    deploy_runtime_priority: Priority | None = None
    seed: int | None = None
    engine: str | None = None
    esp_ppq_version: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def status(self) -> Literal["ok", "failed"]:
        """Return "ok" where there is a score to rank."""
        return "failed" if self.value is None else "ok"

    @property
    def origin(self) -> Origin:
        """Return what the score was measured with."""
        return Origin(self.target_chip, self.float_reference_key)

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return f"iter_{self.id}"
