"""One finished iteration, as its folder tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from espdl_quantize.contract import Origin
from espdl_quantize.core import FailedPass
from espdl_quantize.record._device import Measurement
from espdl_quantize.setting import Setting

Direction = Literal["max", "min"]
Priority = Literal["balanced", "speed", "pc_time"]


@dataclass(frozen=True)
class LayerError:
    """One op and its isolated noise:signal power ratio; None where it was not a finite number."""

    op: str
    snr: float | None


@dataclass(frozen=True)
class OutputSignal:
    """How far one output is from the float model's; None for what does not apply to it.

    Attributes:
        name: of the output.
        noise_signal: power of the difference over that of the float output, mean over samples.
        agreement: share of the samples whose largest element is the float model's.
        cosine: of the angle between the two, mean over samples.
    """

    name: str
    noise_signal: float | None = None
    agreement: float | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class Signals:
    """How far the outputs are from the float model's on the scored samples; no labels are needed.

    Attributes:
        samples: how many were compared; calibration samples are not.
        noise_signal: mean over the outputs.
        agreement: mean over the outputs that are vectors, such as class scores.
        outputs: one by one.
    """

    samples: int
    noise_signal: float | None = None
    agreement: float | None = None
    outputs: tuple[OutputSignal, ...] = ()


_QUOTED = re.compile(r"(?<!\w)('[^']*'|\"[^\"]*\")")
_WORD = re.compile(r"[\w./:-]+")


def _is_name(word: str, ops: frozenset[str]) -> bool:
    """Tell whether a word of a message is a number, or names an op or a file."""
    return word in ops or "/" in word or any(letter.isdigit() for letter in word)


@dataclass(frozen=True)
class Attempt:
    """A failed attempt at an iteration that was run again in its folder.

    Attributes:
        failure: why it failed.
        ended_at: when, as local time.
        seconds: how long it took.
    """

    failure: Failure
    ended_at: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Failure:
    """Why an iteration has no score; in which pass of esp-ppq, where the folder says so."""

    stage: str
    cause: str
    hint: str = ""
    failed_pass: FailedPass | None = None

    @property
    def kind(self) -> str:
        """Return the stage, the pass and the cause; equal for failures that are alike."""
        if self.failed_pass is None:
            return f"{self.stage}: {self.cause}"
        return f"{self.stage}: {self.failed_pass.name}: {self.kind_of_cause}"

    @cached_property
    def kind_of_cause(self) -> str:
        """The cause without names and numbers.

        One cause may show in another layer, or after more steps.
        """
        text, where = self.cause, self.failed_pass
        ops: frozenset[str] = frozenset()
        if where is not None:
            text = text.replace(f" at {where.layer}", "") if where.layer else text
            ops = frozenset((*where.layers, *where.other_layers))
        text = _QUOTED.sub("~", text)
        return _WORD.sub(lambda word: "~" if _is_name(word[0], ops) else word[0], text)

    @property
    def is_of_setting(self) -> bool:
        """Return whether another setting may do better: the model is not legal on the chip."""
        return self.stage == "check model"

    def __str__(self) -> str:
        told = f"{self.stage}: {self.cause}" if self.stage else self.cause
        return f"{told} -> {self.hint}" if self.hint else told


@dataclass(frozen=True)
class EngineFallback:
    """A part of an iteration that plain esp-ppq did because the fast engine failed at it.

    Attributes:
        part: which one.
        layer: the op, block, pass or tensor at which it failed; empty where unknown.
        reason: the exception.
    """

    part: str
    layer: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.part} ({self.layer})" if self.layer else self.part


@dataclass(frozen=True)
class OnChip:
    """What was found in the exported file; each is None where the folder does not say.

    Attributes:
        legal: whether it obeys the chip's rules.
        doubts: ops of which no source says whether the chip can run them so.
        exact_percent: of all ops' outputs, the share whose integers are what the simulation says.
        largest_difference: the largest difference, in steps of the output's scale.
        end_to_end_exact_percent: the share of the model's outputs.
        ops_checked: ops that were computed in integers.
        ops_skipped: ops that the chip computes in float, or in a way that is not known.
        overflows: sums beyond the chip's accumulator.
    """

    legal: bool | None = None
    doubts: int | None = None
    exact_percent: float | None = None
    largest_difference: int | None = None
    end_to_end_exact_percent: float | None = None
    ops_checked: int | None = None
    ops_skipped: int | None = None
    overflows: int | None = None


@dataclass(frozen=True)
class Iteration:
    """A row of the history.

    Attributes:
        id: the number in the folder's name, which is the identity of an iteration.
        folder: where its artifacts lie.
        setting: what was asked for, with its calibration spelled out; None where setting.json is
            missing or not valid.
        value: the primary metric; None where the iteration failed or scored no finite number.
        metric: name of the primary metric.
        direction: whether a larger or a smaller value is better; None where the folder is silent.
        target: the value to reach, if the contract sets one.
        failure: why there is no value.
        evaluated_by: the contract's function that scored it, "evaluate" or "evaluate_fast".
        float_value: the float model's score on the same images.
        float_reference_key: stands for the contract and the float model that it was run with.
        contract_key: stands for the contract alone, which is known before anything runs.
        on_chip: what was found in the exported file; None where it was not checked.
        engine: "fast", or "reference" for plain esp-ppq.
        engine_fallbacks: the parts that plain esp-ppq did for the fast engine.
        device: what a board measured of its model; None where nobody has tried.
        num_of_bits: the contract's default width; None where the folder is silent.
        metrics: everything that the contract's function returned.
        warnings: what was said while the setting was applied.
        elapsed_seconds: how long it took.
        seconds_saved: how much longer it would have taken without the results of earlier ones.
        sample_count: how many samples were scored, as far as that is known.
        sample_count_from: who says so: "per_sample", "stated" by the evaluation, or "seen".
        metric_unit: "percent" or "fraction" where the metric is a rate of samples.
        per_sample_scale: from the mean of the samples' results to the metric.
        samples_shared_with_calibration: how many of them were also used for calibration.
        signals: how far the outputs are from the float model's.
        final_by: the contract's function of the final score, where the search scores by another.
        model_sha256: of the exported model, in a final score.
        samples_shared_with_search: samples of a final score that the search scored, too.
        attempts: earlier ones in the same folder that failed, the latest last.
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
    contract_key: str | None = None
    elapsed_seconds: float | None = None
    elapsed_by_stage: Mapping[str, float] = field(default_factory=dict)
    seconds_saved: float = 0.0
    top_5_error_layers: tuple[LayerError, ...] = ()
    non_computing_hot_ops_count: int | None = None
    graphwise_jumps_count: int | None = None
    contract_path: str | None = None
    model_name: str | None = None
    target_chip: str | None = None
    num_of_bits: int | None = None
    deploy_runtime_priority: Priority | None = None
    seed: int | None = None
    engine: str | None = None
    engine_fallbacks: tuple[EngineFallback, ...] = ()
    esp_ppq_version: str | None = None
    on_chip: OnChip | None = None
    device: Measurement | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sample_count: int | None = None
    sample_count_from: str | None = None
    metric_unit: str | None = None
    per_sample_scale: float | None = None
    samples_shared_with_calibration: int | None = None
    signals: Signals | None = None
    final_by: str | None = None
    model_sha256: str | None = None
    samples_shared_with_search: int | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def has_samples(self) -> bool:
        """Return whether the result of each sample was kept."""
        return self.sample_count_from == "per_sample"

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
