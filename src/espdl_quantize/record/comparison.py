"""comparison.json: what a comparison says of an output folder, typed.

Fields stand in the order of the file, and their names are its keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
)

from espdl_quantize.core import Json, OutputFolderError, read_json, to_jsonable, write_json
from espdl_quantize.setting import Setting

COMPARISON = "comparison.json"

Number = int | float


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> Json:
        """Return plain data, as it is written."""
        content: Json = to_jsonable(self.model_dump(by_alias=True))
        return content


def _key(key: str, name: str) -> Any:
    """Give a field a key that Python keeps for itself, or that is older than its name."""
    return Field(serialization_alias=key, validation_alias=AliasChoices(key, name))


class ScoreInterval(_Part):
    """Where a score lies with 95 % confidence, and how that was computed."""

    low: float
    high: float
    method: str


class ScoreTest(_Part):
    """One score held against another."""

    verdict: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    test: str
    samples: int
    paired: bool


class OutputNoise(_Part):
    """How far one output is from the float model's."""

    name: str
    noise_signal: float | None
    agreement: float | None
    cosine: float | None


class OutputNoises(_Part):
    """How far the outputs are from the float model's on the scored samples."""

    samples: int
    noise_signal: float | None
    agreement: float | None
    outputs: tuple[OutputNoise, ...]


class PassOfFailure(_Part):
    """The pass that a failure lies in, its field in a setting, and the layer."""

    name: str = _key("pass", "name")
    field: str | None
    layer: str | None


class FailedAttempt(_Part):
    """An earlier attempt at an iteration, which failed."""

    ended_at: str
    elapsed_seconds: float | None
    stage: str
    failed_pass: str | None = _key("pass", "failed_pass")
    layer: str | None
    cause: str


class OnBoard(_Part):
    """What a board measured of an iteration's model."""

    chip: str | None
    ms: float | None
    runs: int
    test: str | None
    loaded: bool | None
    internal_bytes: int | None
    psram_bytes: int | None
    problem: str


class CostOnChip(_Part):
    """What an iteration's file is predicted to cost; null for what is not known."""

    chip: str
    milliseconds: float | None
    low: float | None
    high: float | None
    source: str
    residual: float | None
    relative_time: float | None
    ram_bytes: int | None
    flash_bytes: int | None
    keeps_budgets: bool | None


class ErrorLayer(_Part):
    """A layer with its isolated noise:signal power ratio."""

    op: str
    snr: float | None


class FallbackPart(_Part):
    """A part that plain esp-ppq did because the fast engine failed at it."""

    part: str
    layer: str
    reason: str


class ComparedIteration(_Part):
    """One iteration in the ranking."""

    iteration_id: int
    dir: str
    status: str
    error: str | None
    same_as: int | None = None
    failed_pass: PassOfFailure | None
    attempts: tuple[FailedAttempt, ...]
    primary_metric: str | None
    primary_value: float | None
    rank: int | str
    delta_vs_prior_best: float | None
    outcome: str
    changed: str
    affects_inference_speed: str
    cost: CostOnChip | None = None
    evaluated_by: str | None
    float_value: float | None
    sample_count: int | None
    interval: ScoreInterval | None
    versus_prior_best: ScoreTest | None
    versus_best: ScoreTest | None
    versus_baseline: ScoreTest | None
    signals: OutputNoises | None
    samples_shared_with_calibration: int | None
    elapsed_seconds: float | None
    device: OnBoard | None
    top_5_error_layers: tuple[ErrorLayer, ...]
    rationale: str
    engine: str | None
    engine_fallbacks: tuple[FallbackPart, ...]
    applied_setting_warnings: tuple[str, ...]


class ExcludedIteration(_Part):
    """An iteration that is not ranked, such as one of another chip."""

    iteration_id: int
    dir: str
    target_chip: str | None
    primary_value: float | None
    reason: str


class BestIteration(_Part):
    """The best iteration and how sure that is."""

    iteration_id: int
    dir: str
    primary_metric: str | None
    primary_value: float | None
    sample_count: int | None
    interval: ScoreInterval | None
    versus_prior_best: ScoreTest | None
    versus_best: ScoreTest | None
    versus_baseline: ScoreTest | None
    signals: OutputNoises | None
    samples_shared_with_calibration: int | None
    cannot_be_told_from: tuple[int, ...]
    highest_score: int | None
    keeps_budgets: bool | None = None
    cheapest_near_best: int | None = None
    selection_bias: float | None = None
    setting: Setting | None

    @field_serializer("setting")
    def _setting(self, setting: Setting | None) -> Json | None:
        return None if setting is None else ready_to_save(setting)


class FinalEntry(_Part):
    """The final score of one iteration."""

    iteration_id: int
    evaluated_by: str | None
    primary_value: float | None
    float_value: float | None
    interval: ScoreInterval | None
    sample_count: int | None
    signals: OutputNoises | None
    same_model: bool | None
    samples_shared_with_search: int | None
    samples_shared_with_calibration: int | None


class FinalScores(_Part):
    """The final scores of a folder; ``sentences`` is the key ``told``."""

    taken: bool
    scores: tuple[FinalEntry, ...]
    best_versus_baseline: ScoreTest | None
    sentences: tuple[str, ...] = _key("told", "sentences")


class SkippedLeverEntry(_Part):
    """A lever that is not proposed, and why."""

    lever: str
    reason: str


class FailedIteration(_Part):
    """An iteration without a score, and the command that runs it again."""

    iteration_id: int
    error: str
    failed_pass: PassOfFailure | None
    attempts: int
    retry_command: str


class CrashedPassEntry(_Part):
    """A pass that crashed, in which iterations, and what follows."""

    name: str = _key("pass", "name")
    iterations: tuple[int, ...]
    is_retired: bool
    reason: str


class EffectEntry(_Part):
    """What one iteration did to the best before it."""

    iter: int
    delta_vs_prior_best: float
    added_pass: str


class TunableEntry(_Part):
    """A parameter of a pass that best has on."""

    path: str
    current: Any
    common: str


class OpenSearchSignals(_Part):
    """What the history offers to whoever writes the next setting in phase 5."""

    best_setting_summary: Json
    iteration_count_total: int
    phase5_iteration_count: int
    phase5_cutoff_iter_id: int
    phase5_pattern_coverage: dict[str, tuple[int, ...]]
    untried_phase5_patterns: tuple[str, ...]
    untried_phase3_levers: tuple[str, ...]
    untried_5beta_reapply: tuple[str, ...]
    improving_levers: tuple[EffectEntry, ...]
    regressing_levers: tuple[EffectEntry, ...]
    untried_calib_swaps: tuple[str, ...]
    top_error_layers: tuple[Json, ...]
    non_computing_hot_ops_top3: tuple[Json, ...]
    graphwise_jumps_top3: tuple[Json, ...]
    artifacts_to_read: tuple[str, ...]
    tunable_parameters: tuple[TunableEntry, ...]


class FinalizeEntry(_Part):
    """Why the search was ended, with what was left untried."""

    category: str
    detail: str
    phase: str
    untried_phase5_patterns: tuple[str, ...]
    untried_phase3_levers: tuple[str, ...]
    untried_5beta_reapply: tuple[str, ...]


_LEFT_OUT = (
    "setting",
    "phase5_signals",
    "coverage_exhausted",
    "finalize_reason",
    "refusal",
    "premature_finalize_rejected",
)
"""Keys that are not written where there is nothing to say."""


class NextStepHint(_Part):
    """What to run next and why, or why the search ends."""

    phase: str
    lever: str | None
    advice: str
    auto_finalized: bool
    skipped_levers: tuple[SkippedLeverEntry, ...]
    failed_iterations: tuple[FailedIteration, ...]
    crashed_passes: tuple[CrashedPassEntry, ...]
    notes: tuple[str, ...]
    setting: Setting | None = None
    phase5_signals: OpenSearchSignals | None = None
    coverage_exhausted: bool | None = None
    finalize_reason: FinalizeEntry | None = None
    refusal: str | None = None
    premature_finalize_rejected: bool | None = None

    @field_serializer("setting")
    def _setting(self, setting: Setting | None) -> Json | None:
        return None if setting is None else ready_to_save(setting)

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> Json:
        content: Json = serialize(self)
        return {
            key: value
            for key, value in content.items()
            if value is not None or key not in _LEFT_OUT
        }


class FolderComparison(_Part):
    """The content of comparison.json."""

    generated_by: str
    primary_metric: str | None
    metric_direction: str
    target_metric: Number | None
    deploy_runtime_priority: str | None
    budgets: dict[str, Number] = {}
    front: tuple[int, ...] = ()
    cost_lines: tuple[str, ...] = ()
    float_reference: dict[str, Number]
    iterations: tuple[ComparedIteration, ...]
    excluded_iterations: tuple[ExcludedIteration, ...]
    best_iteration: BestIteration | None
    final: FinalScores
    score_source: str
    iteration_ranks: dict[str, int | str]
    runtime_cost_classification: dict[str, str]
    ranking_warnings: tuple[str, ...]
    early_finalize_command: str
    next_step_hint: NextStepHint

    def newest(self, count: int | None) -> FolderComparison:
        """Return it with the last iterations alone; None keeps all."""
        if count is None:
            return self
        return self.model_copy(update={"iterations": self.iterations[-count:]})


def write_comparison(outputs: Path, comparison: FolderComparison) -> None:
    """Write comparison.json.

    Raises:
        OSError: it cannot be written.
    """
    write_json(outputs / COMPARISON, comparison.to_json())


def read_comparison(outputs: Path) -> FolderComparison | None:
    """Read comparison.json; None where there is none, or one that this version did not write."""
    try:
        return FolderComparison.model_validate(read_json(outputs / COMPARISON))
    except (OutputFolderError, ValueError):
        return None


def ready_to_save(setting: Setting) -> Json:
    """Return a setting as the content of setting.json."""
    return setting.model_dump(exclude_none=True)
