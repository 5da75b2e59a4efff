"""QUANT_CONFIG: its keys, their types and defaults, and how faults in it are described."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from espdl_quantize.contract._faults import Fault
from espdl_quantize.core import ContractError, Direction, MetricUnit, Priority, Word
from espdl_quantize.targets.ops import (
    Version,
    oldest_version,
    op_table,
    parse_version,
    supported_version,
    version_text,
)

FEWEST_STEPS, MOST_STEPS = 2, 5000
"""What esp-ppq's RuntimeCalibrationPass asserts of calib_steps."""

_Size = Annotated[int, Field(gt=0)]
Shape = Annotated[list[_Size], Field(min_length=1)]
Shapes = Annotated[list[list[_Size]], Field(min_length=1)]
NamedShapes = Annotated[dict[Annotated[str, Field(min_length=1)], list[_Size]], Field(min_length=1)]
Axis = Annotated[int, Field(ge=0)] | None


def _as_lists(value: object) -> object:
    """Accept tuples where lists are expected; an input shape is often written as a tuple."""
    if isinstance(value, (list, tuple)):
        return [_as_lists(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _as_lists(item) for name, item in value.items()}
    return value


@dataclass(frozen=True)
class InputSpec:
    """What the contract says of one input of the model.

    Attributes:
        name: of the input; None where the order of the inputs counts.
        shape: of one sample, without the axis of the batch.
        axis: where the batch's samples lie; None for an input that is the same for all of them.
    """

    name: str | None
    shape: tuple[int, ...]
    axis: int | None = 0

    def batched(self, samples: int) -> list[int]:
        """Return the shape of a batch of so many samples."""
        if self.axis is None:
            return list(self.shape)
        return [*self.shape[: self.axis], samples, *self.shape[self.axis :]]

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether a batch of any size may have this shape."""
        if self.axis is None:
            return tuple(shape) == self.shape
        rest = (*shape[: self.axis], *shape[self.axis + 1 :])
        return len(shape) == len(self.shape) + 1 and rest == self.shape

    def describe(self, batch: str = "batch") -> str:
        """Return the shape as it is shown, the batch in its place."""
        sizes = [str(size) for size in self.shape]
        if self.axis is not None:
            sizes.insert(self.axis, batch)
        return f"[{', '.join(sizes)}]"


def _supported(text: str) -> str:
    """Return a version of ESP-DL as it is written, for pydantic."""
    try:
        return version_text(supported_version(text))
    except ContractError as error:
        raise ValueError(error.cause) from error


def _from_string(words: type[Word]) -> BeforeValidator:
    """Accept the string of an enum, which is what a contract writes."""
    return BeforeValidator(lambda value: words(value) if isinstance(value, str) else value)


class QuantConfig(BaseModel):
    """The user's QUANT_CONFIG, validated.

    Shapes are of one sample, without the batch dimension; more than one input is a list of shapes.
    """

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    model_type: Literal["onnx", "torch"]
    """Where the model comes from: get_torch_model(), or the file of onnx_path."""
    onnx_path: str | None = None
    """Needed for ONNX. Relative to the contract's folder; the file is copied, never written."""
    input_shape: Annotated[Shape | Shapes | NamedShapes, BeforeValidator(_as_lists)]
    """One sample, without the batch; several inputs are a list of shapes, or a dict by name."""
    batch_axis: Annotated[Axis | list[Axis] | dict[str, Axis], BeforeValidator(_as_lists)] = 0
    """The axis that holds a batch's samples, None for an input that is one for all of them; of
    several inputs a list, or a dict by name of those that differ from 0."""
    batch_size: int = Field(ge=1)
    """Samples per calibration batch."""
    target: str
    """The chip; any that the installed esp-ppq accepts, in lower or upper case."""
    num_of_bits: Literal[8, 16]
    """The width of ops that no dispatching table names."""
    device: Literal["cpu", "cuda"]
    """Where quantizing, training and analysing run."""
    calib_steps: int = Field(ge=FEWEST_STEPS, le=MOST_STEPS)
    """Batches that the calibration reads; a shorter loader is read again from its beginning."""
    primary_metric: str = Field(min_length=1)
    """What the search improves: a key of the dict that evaluate() returns. Without evaluate() one
    of noise_vs_float, which is the default then, cosine_with_float and agreement_with_float."""
    metric_direction: Annotated[Direction, _from_string(Direction)]
    """Whether a larger or a smaller value is better."""
    metric_unit: Annotated[MetricUnit, _from_string(MetricUnit)] | None = None
    """Of a metric that is the share of the samples that came out right."""
    target_metric: float | None = Field(None, allow_inf_nan=False)
    """The search stops as soon as an iteration reaches this."""
    max_drop: float | None = Field(None, ge=0, allow_inf_nan=False)
    """In place of target_metric: the search stops where no more points are lost to the float."""
    max_latency_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Best is the most accurate model that takes no more milliseconds on the chip."""
    max_ram_kb: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The same of the KiB of RAM that the activations take at their peak."""
    max_flash_kb: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The same of the KiB of the exported file."""
    analyse_steps: int = Field(8, ge=1)
    """Batches that the error analyses read; esp-ppq reads one more than it is given. Where it is
    not stated, the strategy swift reads two at least, and until it has `swift_analysed` samples."""
    top_k_layers: int = Field(20, ge=1)
    """Layers whose statistics go into layer_stats.json."""
    non_computing_top_k: int = Field(10, ge=1)
    """Ops that go into non_computing_hot_ops.json."""
    graphwise_intervening_excess_threshold: float = Field(0.02, ge=0, allow_inf_nan=False)
    """Smaller jumps are left out of graphwise_jumps.json."""
    deploy_runtime_priority: Annotated[Priority, _from_string(Priority)] = Priority.BALANCED
    """"speed" tries what costs the chip time last; "pc_time" acts as "balanced"."""
    convert_fp16: bool = False
    """Convert an ONNX file's numbers of 16 bits to float32; without it such a file is refused."""
    esp_dl_version: Annotated[str, AfterValidator(_supported)] | None = None
    """The version of ESP-DL on the chip; without it, what needs a later one than was looked at is
    a doubt, with it nothing is exported that the version lacks."""
    model_name: str | None = None
    """The name in reports; without it, that of the ONNX file, or of the contract's file, or of its
    folder where the file is called user_quant.py."""

    @property
    def esp_dl(self) -> Version | None:
        """The version of ESP-DL as numbers; None where the contract names none."""
        return None if self.esp_dl_version is None else parse_version(self.esp_dl_version)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What is said of each input, in the order of input_shape."""
        shapes, names = self.input_shapes, self.input_names
        axes = [0] * len(shapes) if self.batch_axis == 0 else self._axes(len(shapes), names)
        labels = names or (None,) * len(shapes)
        return tuple(
            InputSpec(name, tuple(shape), axis)
            for name, shape, axis in zip(labels, shapes, axes, strict=True)
        )

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """The names of the inputs; None where their order counts."""
        return tuple(self.input_shape) if isinstance(self.input_shape, dict) else None

    @property
    def input_shapes(self) -> list[list[int]]:
        """The shape of each input, without the batch dimension."""
        if isinstance(self.input_shape, dict):
            return [list(shape) for shape in self.input_shape.values()]
        if isinstance(self.input_shape[0], list):
            return [list(shape) for shape in self.input_shape if isinstance(shape, list)]
        return [[size for size in self.input_shape if isinstance(size, int)]]

    @property
    def batch_axes(self) -> tuple[int | None, ...]:
        """The axis of each input that holds the samples."""
        return tuple(each.axis for each in self.inputs)

    def _axes(self, count: int, names: tuple[str, ...] | None) -> list[int | None]:
        if isinstance(self.batch_axis, dict):
            return [self.batch_axis.get(name, 0) for name in names or ()]
        return self.batch_axis if isinstance(self.batch_axis, list) else [self.batch_axis] * count

    def steps_of_analyses(self, sizes: Sequence[int], enough: int | None) -> int:
        """Return the batches, less one, that the error analyses read, as esp-ppq counts them.

        Args:
            sizes: samples of each calibration batch.
            enough: samples that will do, where analyse_steps is not stated; None for its default.
        """
        if enough is None or "analyse_steps" in self.model_fields_set:
            return self.analyse_steps
        steps = range(1, self.analyse_steps)
        return next((n for n in steps if sum(sizes[: n + 1]) >= enough), self.analyse_steps)


def _axis_problem(config: QuantConfig) -> str:
    """Say what is wrong with batch_axis beside input_shape; empty where nothing is."""
    axes, names, shapes = config.batch_axis, config.input_names, config.input_shapes
    if isinstance(axes, dict):
        if names is None:
            return "names, where input_shape has none"
        unknown = sorted(set(axes) - set(names))
        if unknown:
            return f"the names {unknown}, which input_shape does not have"
    elif isinstance(axes, list) and len(axes) != len(shapes):
        return f"{len(axes)} axes for {len(shapes)} inputs"
    for spec in config.inputs:
        if spec.axis is not None and spec.axis > len(spec.shape):
            of = "" if spec.name is None else f" of {spec.name!r}"
            return f"axis {spec.axis}{of}, where a batch has {len(spec.shape) + 1} axes"
    if all(spec.axis is None for spec in config.inputs):
        return "no input that holds samples"
    return ""


_EXPECTED: dict[str, tuple[str, str]] = {
    "model_type": ('"torch" or "onnx"', '"torch"'),
    "onnx_path": ("the path of an ONNX file, as a string", '"model.onnx"'),
    "input_shape": (
        "a list of positive ints, one sample without batch; of several inputs a list of them, or a "
        "dict by name",
        "[3, 224, 224]",
    ),
    "batch_axis": (
        "the axis that holds the samples, or None for an input that is one for all of them; of "
        "several inputs a list, or a dict by name",
        '{"state": 1, "rate": None}',
    ),
    "batch_size": ("a positive int", "32"),
    "target": ("a chip name that the installed esp-ppq accepts", '"esp32s3"'),
    "num_of_bits": ("8 or 16", "8"),
    "device": ('"cpu" or "cuda"', '"cpu"'),
    "calib_steps": (
        f"an int from {FEWEST_STEPS} to {MOST_STEPS}, the number of calibration batches",
        "16",
    ),
    "primary_metric": ("a key of the dict that evaluate() returns", '"top1"'),
    "metric_direction": ('"max" or "min"', '"max"'),
    "metric_unit": ('"percent" or "fraction", or None where the metric is no rate', '"percent"'),
    "target_metric": ("a finite number, or None", "71.0"),
    "max_drop": ("a number of points, 0 or more, or None", "1.0"),
    "max_latency_ms": ("a number above 0, or None", "50.0"),
    "max_ram_kb": ("a number above 0, or None", "512"),
    "max_flash_kb": ("a number above 0, or None", "2048"),
    "analyse_steps": ("a positive int", "8"),
    "top_k_layers": ("a positive int", "20"),
    "non_computing_top_k": ("a positive int", "10"),
    "graphwise_intervening_excess_threshold": ("a number, 0 or more", "0.02"),
    "deploy_runtime_priority": ('"balanced", "speed" or "pc_time"', '"balanced"'),
    "convert_fp16": ("True or False", "True"),
    "esp_dl_version": (
        f"a version of ESP-DL, three numbers from {version_text(oldest_version())} on, or None",
        f'"{version_text(op_table().version)}"',
    ),
    "model_name": ("a string, or None", '"MobileNetV2"'),
}


_MISSING = "nothing"


class UnlabelledMetric(Word):
    """What a model is scored by where the contract has no evaluate: agreement with its float model.

    All are means over held-out samples that no label is known of.
    """

    NOISE = "noise_vs_float"
    """The power of the outputs' difference over that of the float outputs; less is better."""
    COSINE = "cosine_with_float"
    """Of the outputs' vectors."""
    AGREEMENT = "agreement_with_float"
    """Percent of the samples of which the largest class is the same one; of classifiers alone."""

    @property
    def direction(self) -> Direction:
        """Which way is better."""
        return Direction.MIN if self is UnlabelledMetric.NOISE else Direction.MAX


def parse_config(
    payload: object, known_targets: Sequence[str], *, has_evaluate: bool = True
) -> tuple[QuantConfig | None, list[Fault]]:
    """Validate QUANT_CONFIG.

    Args:
        payload: the value of the contract's QUANT_CONFIG.
        known_targets: chip names that the installed esp-ppq accepts.
        has_evaluate: whether the contract scores; without that, the metric is one of
            :class:`UnlabelledMetric`, and need not be named.

    Returns:
        The configuration, None where it has faults, and every fault at once.
    """
    if not isinstance(payload, Mapping):
        fault = Fault("QUANT_CONFIG", _show(payload), "a dict", 'QUANT_CONFIG = {"target": ...}')
        return None, [fault]
    values = dict(payload)
    if isinstance(values.get("target"), str):
        values["target"] = values["target"].lower()
    if not has_evaluate:
        _complete_metric(values)
    config: QuantConfig | None = None
    faults: dict[str, Fault] = {}
    try:
        config = QuantConfig.model_validate(values)
    except ValidationError as error:
        for entry in error.errors():
            key = str(entry["loc"][0])
            found = _MISSING if entry["type"] == "missing" else _show(values[key])
            faults[key] = _fault(key, found)
    if config is not None and (problem := _axis_problem(config)):
        faults["batch_axis"] = _fault("batch_axis", f"{problem} ({_show(values['batch_axis'])})")
    if values.get("model_type") == "onnx" and values.get("onnx_path") is None:
        faults["onnx_path"] = _fault("onnx_path", _MISSING)
    if config is not None and None not in (config.max_drop, config.target_metric):
        faults["max_drop"] = Fault(
            'QUANT_CONFIG["max_drop"]',
            f"{_show(values['max_drop'])} beside target_metric {_show(values['target_metric'])}",
            "one of the two: both say when to stop, and may contradict each other",
            '"max_drop": None',
        )
    metric = values.get("primary_metric")
    if not has_evaluate and metric in set(UnlabelledMetric) and config is not None:
        right = UnlabelledMetric(str(metric)).direction
        if config.metric_direction != right:
            faults["metric_direction"] = Fault(
                'QUANT_CONFIG["metric_direction"]',
                _show(values["metric_direction"]),
                f"{str(right)!r}, which is the better direction of {metric}",
                f'"{right}"',
            )
    target = values.get("target")
    if isinstance(target, str) and target not in known_targets:
        close = difflib.get_close_matches(target, known_targets, n=2)
        nearest = f", which looks like {' or '.join(map(repr, close))}" if close else ""
        faults["target"] = Fault(
            'QUANT_CONFIG["target"]',
            f"{_show(target)}{nearest}",
            f"one of {', '.join(known_targets)}",
            '"esp32s3"',
        )
    for key in sorted(set(values) - set(_EXPECTED)):
        close = difflib.get_close_matches(str(key), faults, n=1)
        if close and faults[close[0]].found == _MISSING:
            fault = faults[close[0]]
            found = f"{_MISSING}; the unknown key {key!r} looks like it"
            faults[close[0]] = Fault(fault.key, found, fault.expected, fault.example)
    return (None if faults else config), list(faults.values())


def _complete_metric(values: dict[Any, Any]) -> None:
    """Fill in what follows where the model is scored without labels."""
    metric = values.setdefault("primary_metric", str(UnlabelledMetric.NOISE))
    if metric in set(UnlabelledMetric):
        values.setdefault("metric_direction", str(UnlabelledMetric(metric).direction))
    if metric == UnlabelledMetric.AGREEMENT:
        values.setdefault("metric_unit", str(MetricUnit.PERCENT))


def unknown_keys(payload: Mapping[str, Any]) -> list[str]:
    """Return the keys of QUANT_CONFIG that mean nothing here; they are ignored."""
    return sorted(str(key) for key in payload if key not in _EXPECTED)


def _fault(key: str, found: str) -> Fault:
    expected, example = _EXPECTED[key]
    return Fault(f'QUANT_CONFIG["{key}"]', found, expected, example)


def _show(value: object) -> str:
    text = repr(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return f"{text} ({type(value).__name__})"
