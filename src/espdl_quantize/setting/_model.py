"""The setting of one iteration: which esp-ppq passes run, and with which parameters.

Field names and defaults follow esp-ppq's ``QuantizationSetting`` (``esp_ppq/api/setting.py``); the
defaults of equalization are esp-ppq's own, so that an omitted field means what esp-ppq means by it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from espdl_quantize.core import dumps
from espdl_quantize.setting._section import Section
from espdl_quantize.setting.passes import PassFields

CalibAlgorithm = Literal["kl", "percentile", "mse", "minmax", "isotone"]
OpWidth = Literal[8, 16, "w8a16"]
"""Of an op: its activations and its weights, or 16 bits for activations and 8 for weights."""
LargeOrOutput = Literal["None", "Align to Large", "Align to Output"]
InputOrOutput = Literal["None", "Align to Input", "Align to Output"]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Calibration = Annotated[CalibAlgorithm, BeforeValidator(_lower)]
OpName = Annotated[str, Field(min_length=1)]


class FusionAlignment(Section):
    """Common scales for the inputs of multi-input ops; None keeps the ESP-DL default."""

    align_avgpooling_to: InputOrOutput | None = None
    """Of AveragePool."""
    align_elementwise_to: LargeOrOutput | None = None
    """Of Add and Sub. The chip adds raw integers: leave it at Align to Output, the default."""
    align_concat_to: LargeOrOutput | None = None
    """Of Concat."""
    align_resize_to: InputOrOutput | None = None
    """Of Resize."""
    force_alignment_overlap: bool | None = None
    """An alignment may replace a scale that another op shares."""


class Dispatch(Section):
    """The width of one op, by its name in the simplified graph."""

    op: str = Field(min_length=1, validation_alias=AliasChoices("op", "op_name"))
    """The op's name, as simplified_ops.json lists it; `op_name` is read as well."""
    bits: OpWidth
    """16 costs the chip about twice the cycles and the activation memory of the op. "w8a16" has
    activations of 16 bits and weights of 8, which ESP-DL 3.3.9 has no kernel for."""


class TensorBits(Section):
    """The width of one tensor as one op sees it; the op's other tensors keep theirs."""

    op: OpName
    """The op's name, as simplified_ops.json lists it."""
    tensor: str = Field(pattern=r"^(input|output)_[0-9]{1,3}$")
    """Which one: input_0 is what the op reads first, input_1 a Conv's weights, output_0 what it
    puts out."""
    bits: Literal[8, 16]
    """The chip's kernels take one width for all activations of an op: other mixtures are found
    illegal when the model is checked."""


class StreamingCache(Section):
    """What is kept of one tensor between two calls of a streaming model."""

    variable: OpName
    """The tensor, by its name in the simplified graph."""
    window_size: int = Field(ge=2)
    """Frames that the op behind it needs at once; one less is kept."""
    op: OpName | None = None
    """Only for this reader of the tensor; null is for all of them."""
    frame_axis: int = Field(default=1, ge=1)
    """Of time, in the chip's order of the axes: channels are last there, so that it is 1."""


class Streaming(Section):
    """A model that is called with a few frames at a time, and keeps what it needs of those before.

    The quantized graph stays whole, and so does what is scored; the exported file is the one that
    streams. Convolutions may be padded on the side of the past alone.
    """

    input_shape: list[int] | None = Field(default=None, min_length=2)
    """The shape of the one input, with its batch of 1: as in the graph, with fewer frames."""
    input_shapes: dict[str, Annotated[list[int], Field(min_length=2)]] | None = None
    """The same by name, for a model with several inputs."""
    auto: bool = True
    """esp-ppq finds out where a StreamingCache is needed."""
    caches: list[StreamingCache] | None = None
    """Caches beside those, or instead of them where `auto` is false."""

    @model_validator(mode="after")
    def _has_one_shape(self) -> Streaming:
        if (self.input_shape is None) == (self.input_shapes is None):
            raise ValueError("give either input_shape or input_shapes")
        if not self.auto and not self.caches:
            raise ValueError("auto is false, and caches is empty: nothing would be kept")
        return self


class _Head(Section):
    iteration_id: int = Field(ge=0, le=999_999_999)
    """The number of the iteration; the name of its folder, iter_<N>, decides."""
    rationale: str = ""
    """Why this setting; several changes at once cite the iterations that speak for them."""
    calib_algorithm: Calibration | None = None
    """How activations are scaled; null is esp-ppq's default: kl, at 16 bits minmax."""
    calib_algorithm_per_layer: dict[OpName, Calibration] | None = None
    """The same by op, for those that differ; the op's inputs and outputs are meant."""
    percentile: float | None = Field(default=None, gt=0.5, le=1)
    """The share of the values that percentile calibration of activations keeps on either side;
    null is esp-ppq's 0.9999. Plain esp-ppq has no such setting: it is set on each tensor."""
    weight_calib_algorithm: Calibration | None = None
    """How weights are scaled; null is the chip's default: minmax where each channel has a scale,
    and at 16 bits, else percentile."""
    weight_calib_algorithm_per_layer: dict[OpName, Calibration] | None = None
    """The same by op."""
    width: OpWidth | None = None
    """The width of the ops that dispatching_table does not name; null is the contract's."""


class Setting(PassFields, _Head):
    """Everything that one iteration changes from plain 8-bit calibration."""

    fusion_alignment: FusionAlignment | None = None
    """Common scales at multi-input ops."""
    dispatching_table: list[Dispatch] | None = None
    """Ops with a width of their own."""
    int16_tables: bool | None = None
    """16-bit Swish, Sigmoid, Tanh, HardSwish and the like become lookup tables in an 8-bit model,
    too; null and false leave them to the chip's float code, as esp-ppq does."""
    tensor_bits: list[TensorBits] | None = None
    """Single tensors with a width of their own."""
    streaming: Streaming | None = None
    """The exported model is called with a few frames at a time."""
    model_version: int | None = Field(default=None, ge=0, le=2**63 - 1)
    """A number of yours in the exported file, such as of the firmware that it is for."""
    metadata: dict[OpName, str] | None = None
    """Words of yours in the exported file, which a program on the chip can read."""
    extra: dict[str, Any] | None = None
    """Further attributes of esp-ppq's QuantizationSetting, set after all others."""


_DEFAULT_CALIBRATION: dict[int, CalibAlgorithm] = {8: "kl", 16: "minmax"}
"""Of activations, by their width: ``QuantizationSettingFactory.espdl_setting``."""

DEFAULT_BITS = 8
"""The width that is assumed where nothing says what it is."""


def default_calibration(num_of_bits: int = DEFAULT_BITS) -> CalibAlgorithm:
    """Return what esp-ppq calibrates activations with where a setting names nothing."""
    return _DEFAULT_CALIBRATION[num_of_bits]


def activation_bits(width: OpWidth) -> int:
    """Return the bits of an op's activations."""
    return 16 if width == "w8a16" else width


def width_of(setting: Setting, num_of_bits: int = DEFAULT_BITS) -> OpWidth:
    """Return the width of the ops that a setting does not name.

    Args:
        setting: any setting.
        num_of_bits: the contract's.
    """
    if setting.width is not None:
        return setting.width
    return 16 if num_of_bits == 16 else 8


def calibration_of(setting: Setting, num_of_bits: int = DEFAULT_BITS) -> CalibAlgorithm:
    """Return what a setting calibrates activations with.

    Args:
        setting: any setting.
        num_of_bits: the contract's.
    """
    if setting.calib_algorithm is not None:
        return setting.calib_algorithm
    return default_calibration(activation_bits(width_of(setting, num_of_bits)))


def with_calibration(setting: Setting, num_of_bits: int) -> Setting:
    """Return the setting with its calibration spelled out.

    What null means depends on the contract's width, which a setting does not hold: wherever the
    width is known, settings that are compared, keyed or described pass through here first.
    """
    if setting.calib_algorithm is not None:
        return setting
    return setting.model_copy(update={"calib_algorithm": calibration_of(setting, num_of_bits)})


def baseline(iteration_id: int = 0, num_of_bits: int | None = DEFAULT_BITS) -> Setting:
    """Return the setting of a baseline: esp-ppq's own defaults and nothing else.

    Args:
        iteration_id: its number.
        num_of_bits: the contract's default width, by which esp-ppq's calibration differs; None
            where it is not known, which leaves the choice to esp-ppq.
    """
    name = None if num_of_bits is None else default_calibration(num_of_bits)
    calibration = "" if name is None else f" ({name} calibration)"
    return Setting(
        iteration_id=iteration_id,
        rationale=f"Baseline: esp-ppq's default ESP-DL setting{calibration}, no other pass.",
        calib_algorithm=name,
    )


def json_schema() -> str:
    """Return the JSON Schema of a setting as text, for editors and agents."""
    return dumps(Setting.model_json_schema(by_alias=False))
