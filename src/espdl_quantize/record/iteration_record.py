"""``iteration_index.json``: what one iteration says of itself, and the row of the history.

:class:`IterationRecord` has a field for each key of the file, which the docstring below it
explains; the reference page is made of these. :class:`Iteration` is a record with what lies beside
it in the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, TypeAdapter
from pydantic.dataclasses import dataclass

from espdl_quantize.contract import Origin
from espdl_quantize.core import (
    Direction,
    Engine,
    Json,
    MetricUnit,
    Priority,
    Strategy,
    read_json,
    write_json,
)
from espdl_quantize.record._values import objects
from espdl_quantize.record.cost import Budgets, Cost, spent
from espdl_quantize.record.device import Measurement
from espdl_quantize.record.failure import FAILED, MOST_ATTEMPTS, NO_EFFECT, Attempt, Failure
from espdl_quantize.record.files import INDEX, iteration_name
from espdl_quantize.record.lenient import (
    CONFIG,
    Count,
    Integer,
    Lenient,
    Number,
    Text,
    clean,
    key,
    read_as,
)
from espdl_quantize.setting import Setting

NO_LABELS = "no_labels"
"""What an iteration was evaluated by where the contract has no evaluation."""


@dataclass(frozen=True, config=CONFIG)
class LayerError(Lenient):
    """One op and its isolated noise:signal power ratio; None where it was not a finite number."""

    op: Text
    snr: Number = None


@dataclass(frozen=True, config=CONFIG)
class OutputSignal(Lenient):
    """How far one output is from the float model's; None for what does not apply to it.

    Attributes:
        name: of the output.
        noise_signal: power of the difference over that of the float output, mean over samples.
        agreement: share of the samples whose largest element is the float model's.
        cosine: of the angle between the two, mean over samples.
    """

    name: Text = ""
    noise_signal: Number = None
    agreement: Number = None
    cosine: Number = None


@dataclass(frozen=True, config=CONFIG)
class Signals(Lenient):
    """How far the outputs are from the float model's on the scored samples; no labels are needed.

    Attributes:
        samples: how many were compared; calibration samples are not.
        noise_signal: mean over the outputs.
        agreement: mean over the outputs that are vectors, such as class scores.
        outputs: one by one.
    """

    samples: Count
    noise_signal: Number = None
    agreement: Number = None
    outputs: tuple[OutputSignal, ...] = ()


@dataclass(frozen=True, config=CONFIG)
class EngineFallback(Lenient):
    """A part of an iteration that plain esp-ppq did because the fast engine failed at it.

    Attributes:
        part: which one.
        layer: the op, block, pass or tensor at which it failed; empty where unknown.
        reason: the exception.
    """

    part: Annotated[Text, Field(min_length=1)]
    layer: Text = ""
    reason: Text = ""

    def __str__(self) -> str:
        return f"{self.part} ({self.layer})" if self.layer else self.part


@dataclass(frozen=True, config=CONFIG)
class ReusedPass(Lenient):
    """A pass whose results were taken from earlier iterations.

    Attributes:
        name: of the pass.
        results: how many; a training pass has one per block.
        seconds: that they took when they were computed.
    """

    name: Text = ""
    results: Integer = 0
    seconds: Number = None


@dataclass(frozen=True, config=CONFIG)
class OnChip(Lenient):
    """What was found in the exported file; each is None where the folder does not say.

    Attributes:
        legal: whether it obeys the chip's rules.
        faults: ops that break one.
        doubts: ops of which no source says whether the chip can run them so.
        exact_percent: of all ops' outputs, the share whose integers are what the simulation says.
        largest_difference: the largest difference, in steps of the output's scale.
        end_to_end_exact_percent: the share of the model's outputs.
        end_to_end_largest_difference: the largest difference at the model's outputs.
        ops_checked: ops that were computed in integers.
        ops_skipped: ops that the chip computes in float, or in a way that is not known.
        overflows: sums beyond the chip's accumulator.
    """

    legal: StrictBool | None = None
    faults: Integer | None = key("faults_count")
    doubts: Integer | None = key("doubts_count")
    exact_percent: Number = None
    largest_difference: Integer | None = None
    end_to_end_exact_percent: Number = None
    end_to_end_largest_difference: Integer | None = None
    ops_checked: Integer | None = None
    ops_skipped: Integer | None = None
    overflows: Integer | None = None


def _failure(value: object) -> object:
    return value if value is None or isinstance(value, Failure) else Failure.from_json(value)


def _attempts(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        return ()
    if all(isinstance(item, Attempt) for item in value):
        return value
    return tuple(map(Attempt.from_json, objects(list(value))))[-MOST_ATTEMPTS:]


def _width(value: int) -> int:
    if value not in (8, 16):
        raise ValueError("a contract may state 8 or 16")
    return value


Width = Annotated[Integer, AfterValidator(_width)]
"""A width that a contract may state."""


FLOAT_MISMATCH = "float_mismatch"
"""The key of what differs between the contract's model and esp-ppq's reading, where that was
allowed; check says it under the same name."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class IterationRecord(Lenient):
    """The content of iteration_index.json.

    What is written has to be of the declared types; what is read and is not, is None.
    """

    id: Integer = key("iteration_id", -1)
    """The number in the folder's name."""
    failure: Annotated[Failure | None, BeforeValidator(_failure)] = key("error")
    """Of a failed one: `stage`, `cause` and `hint`; within a pass of esp-ppq also `pass`, its
    `field` in a setting, the `layer` in words, the ops of that block (`layers`) and the computing
    ops of the other blocks (`other_layers`)."""
    rationale: Text = ""
    """From the setting."""
    model_path: Text | None = None
    """`model.espdl`; null where there is none."""
    contract_path: Text | None = None
    """Where the contract was."""
    model_name: Text | None = None
    """From the contract."""
    target_chip: Text | None = None
    """The chip that was quantized for."""
    esp_dl_version: Text | None = None
    """The version of ESP-DL that it is for; null where none was named."""
    target_given: bool = False
    """Whether that is another chip than the contract's, by `--target`."""
    num_of_bits: Width | None = None
    """The contract's default width."""
    elapsed_seconds: Number = None
    """How long it took on this machine."""
    elapsed_by_stage: Mapping[Text, float] = field(default_factory=dict)
    """Seconds of each stage; `run one batch` is one forward of the float model, which the time of
    training is derived from."""
    reused: tuple[ReusedPass, ...] = ()
    """Passes taken from earlier iterations, and the seconds that they took there."""
    metric: Text | None = key("primary_metric")
    """Name of the score."""
    value: Number = key("primary_value")
    """The score; null where it failed."""
    float_value: Number = None
    """The float model's score by the same function."""
    float_reference_key: Text | None = None
    """Stands for the contract and the float model; iterations with different ones do not
    compare."""
    float_mismatch: Text | None = None
    """Of a run that went on although esp-ppq reads another model than the contract's: how far they
    are apart and where it begins; null where they are the same."""
    contract_key: Text | None = None
    """Stands for the contract's code and data alone, so that an edit is seen before anything
    runs."""
    evaluated_by: Text | None = None
    """`evaluate` or `evaluate_fast`; of a final score `evaluate_final`, too; `no_labels` where the
    contract has no evaluation: by agreement with the float model on held-out samples."""
    sample_count: Count | None = None
    """How many samples were scored."""
    sample_count_from: Text | None = None
    """Who says so: `per_sample`, `records` where the contract's aggregate makes the metric of it,
    `stated`, or `seen` in the graph's executions."""
    metric_unit: MetricUnit | None = None
    """`percent` or `fraction` of a metric that is a rate."""
    per_sample_scale: Number = None
    """From the mean of `per_sample` to the metric."""
    samples_seen: Integer | None = None
    """Samples that went through the graph while it was scored."""
    samples_shared_with_calibration: Integer | None = None
    """How many of them calibrated it, too."""
    signals: Signals | None = None
    """Against the float model, on held-out samples: `noise_signal`, `agreement` of the largest
    element, and by output these and `cosine`."""
    final_by: Text | None = None
    """The function that the final score of the search is taken by; null where there is none."""
    same_as: Integer | None = None
    """Of an iteration without effect: the number of the earlier one with the same quantized graph.
    It has no model, no analyses and no score of its own."""
    quantized_by: Text | None = None
    """Stands for all that decides on the quantized graph, esp-ppq's version and seed included."""
    graph_sha256: Text | None = None
    """Stands for the quantized graph: its exponents, widths and weights."""
    model_sha256: Text | None = None
    """Of a final score or a draw: what was exported."""
    draw: Integer | None = None
    """Of a final score or a draw: which draw of the calibration data; 0 is the loader's own."""
    samples_shared_with_search: Integer | None = None
    """Of a final score: how many of its samples the search scored, too."""
    direction: Direction | None = key("metric_direction")
    """Whether a larger (`max`) or a smaller (`min`) score is better."""
    target: Number = key("target_metric")
    """The score to reach, from the contract."""
    budgets: Budgets | None = None
    """The contract's `max_latency_ms`, `max_ram_kb`, `max_flash_kb`, `max_drop`; null if old."""
    deploy_runtime_priority: Priority | None = None
    """From the contract."""
    non_computing_top_k: Integer | None = None
    """From the contract."""
    non_computing_hot_ops_count: Integer | None = None
    """Rows of non_computing_hot_ops.json."""
    graphwise_jumps_count: Integer | None = None
    """Rows of graphwise_jumps.json."""
    analysed_samples: Integer | None = None
    """Samples that the error analyses read; null where there were none."""
    on_chip: OnChip | None = key("chip_check")
    """Of chip_check.json: `legal`, `faults_count`, `doubts_count`, and in how far the integers
    agree with the simulation: `exact_percent`, `largest_difference` in steps, both again
    `end_to_end_`, `ops_checked`, `ops_skipped`, `overflows`."""
    top_5_error_layers: tuple[LayerError, ...] = ()
    """`op` and `snr` of the worst layers."""
    warnings: tuple[Text, ...] = key("applied_setting_warnings", ())
    """Everything that was warned of."""
    seed: Integer | None = None
    """Of every random generator."""
    strategy: Strategy | None = None
    """Of the search that proposed it: `seed` or `swift`; null where none was asked for."""
    beside: tuple[Integer, ...] = ()
    """With `--parallel`, the iterations that had not ended when this one was decided on."""
    engine: Engine | None = None
    """`fast`, or `reference` for plain esp-ppq."""
    engine_fallbacks: tuple[EngineFallback, ...] = ()
    """What plain esp-ppq did because the fast engine failed at it: `part`, `layer` and `reason`;
    mostly empty."""
    reduced_memory: StrictBool | None = None
    """Whether what is large was kept on the disk."""
    esp_ppq_version: Text | None = None
    """Of the esp-ppq that made it."""
    attempts: Annotated[tuple[Attempt, ...], BeforeValidator(_attempts)] = ()
    """Only after a repetition in place: the last 10 earlier attempts that failed, each with
    `ended_at`, `elapsed_seconds`, `stage`, `pass`, `field`, `layer`, `layers`, `cause` and
    `hint`."""

    @property
    def status(self) -> Literal["ok", "failed", "no effect"]:
        """Return "ok" where there is a score to rank."""
        if self.is_without_effect:
            return NO_EFFECT
        return FAILED if self.failure is not None or self.value is None else "ok"

    @property
    def is_without_effect(self) -> bool:
        """Return whether its quantized graph is that of an earlier iteration."""
        return self.same_as is not None and self.failure is None

    @property
    def has_samples(self) -> bool:
        """Return whether the result of each sample was kept."""
        return self.sample_count_from == "per_sample"

    @property
    def has_replicates(self) -> bool:
        """Return whether it is known what the metric comes to on resampled samples."""
        return self.sample_count_from == "records"

    @property
    def origin(self) -> Origin:
        """Return what the score was measured with."""
        return Origin(self.target_chip, self.float_reference_key, self.esp_dl_version)

    @property
    def seconds_saved(self) -> float:
        """Return how much longer it would have taken without the results of earlier ones."""
        return sum(max(each.seconds or 0.0, 0.0) for each in self.reused)

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return iteration_name(self.id)

    def to_json(self) -> Json:
        """Return the content of iteration_index.json."""
        plain = _adapter(IterationRecord).dump_python(
            self, mode="json", by_alias=True, exclude={"failure", "attempts"}
        )
        form: Json = {
            "iteration_id": plain.pop("iteration_id"),
            "status": self.status,
            "error": None if self.failure is None else self.failure.to_json(),
            **plain,
        }
        optional = _ABSENT_WITHOUT_SCORE if self.value is None else _ONLY_OF_AUXILIARY_RUNS
        for name in (*optional, *_ONLY_WITHOUT_EFFECT):
            if form[name] is None:
                del form[name]
        if not self.beside:
            del form["beside"]
        if self.attempts:
            form["attempts"] = [attempt.to_json() for attempt in self.attempts]
        return form

    def write(self, folder: Path) -> None:
        """Write iteration_index.json, after all other files: it is what makes a folder whole.

        Raises:
            OSError: it cannot be written.
        """
        write_json(folder / INDEX, self.to_json())


_ONLY_WITHOUT_EFFECT = ("same_as",)
_ONLY_OF_AUXILIARY_RUNS = ("model_sha256", "draw", "samples_shared_with_search")
_ABSENT_WITHOUT_SCORE = (
    "sample_count",
    "sample_count_from",
    "metric_unit",
    "per_sample_scale",
    "samples_seen",
    "samples_shared_with_calibration",
    "signals",
    "final_by",
    *_ONLY_OF_AUXILIARY_RUNS,
)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Iteration(IterationRecord):
    """A row of the history: the record of an iteration, and what lies beside it in its folder.

    Attributes:
        id: the number in the folder's name, which is the identity of an iteration.
        folder: where its artifacts lie.
        setting: what was asked for, with its calibration spelled out; None where setting.json is
            missing or not valid.
        device: what a board measured of its model; None where nobody has tried.
        cost: what its file costs on the chip; None where nobody has looked.
        metrics: everything that the contract's function returned.
    """

    id: int
    folder: Path = Path()
    setting: Setting | None = None
    device: Measurement | None = None
    cost: Cost | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spent(self) -> Mapping[str, float | None]:
        """Return what its model takes of each budget; None for what is not known."""
        device = self.device
        measured = None if device is None or device.is_against_the_model else device.ms
        return spent(self.cost, measured)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def record_from_json(index: Json) -> IterationRecord:
    """Read the content of an iteration_index.json; what is not of the expected type is left out."""
    form = clean(index)
    if form.get("status") != FAILED:
        form["error"] = None
    else:
        form["error"] = Failure.from_json(form.get("error"))
        form["primary_value"] = None
    if form.get("status") == NO_EFFECT:
        form["primary_value"] = None
    else:
        form["same_as"] = None
    record: IterationRecord = read_as(_adapter(IterationRecord), form)
    return record


def read_record(folder: Path) -> IterationRecord:
    """Read the iteration_index.json of a folder.

    Raises:
        OutputFolderError: it is missing, unreadable, or holds no JSON object.
    """
    return record_from_json(read_json(folder / INDEX))
