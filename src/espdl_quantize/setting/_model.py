"""The setting of one iteration: which esp-ppq passes run, and with which parameters.

Field names and defaults follow esp-ppq's ``QuantizationSetting`` (``esp_ppq/api/setting.py``); the
defaults of equalization are esp-ppq's own, so that an omitted field means what esp-ppq means by it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

CalibAlgorithm = Literal["kl", "percentile", "mse", "minmax", "isotone"]
LargeOrOutput = Literal["None", "Align to Large", "Align to Output"]
InputOrOutput = Literal["None", "Align to Input", "Align to Output"]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _empty_means_all(value: object) -> object:
    return None if value == [] else value


Layers = Annotated[list[str] | None, BeforeValidator(_empty_means_all)]
"""Names of ops in the simplified graph; None (also written as ``[]``) means every op."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class PassSection(_Section):
    """A pass that runs only where ``enabled`` is true."""

    enabled: bool = False
    """The pass runs only where this is true."""


class Equalization(PassSection):
    """Layer-wise equalization: moves a per-channel factor between neighbouring weights."""

    iterations: int = Field(10, ge=1)
    """How often the factors are moved over all pairs of layers."""
    value_threshold: float = Field(0.5, ge=0)
    """Channels whose weights stay below this, on either side of the pair, are left alone."""
    opt_level: Literal[1, 2] = 1
    """1 follows plain chains only; 2 also crosses Add and Sub, and so reaches residual blocks."""
    including_bias: bool = False
    """Biases count as weights when a channel's factor is chosen."""
    including_act: bool = False
    """Activations count, too; needs more calibration data to be of use."""
    interested_layers: Layers = None
    """Only these ops; null or [] means every op."""


class BiasCorrect(PassSection):
    """Bias correction: adds the mean output error of a block back into its biases."""

    block_size: int = Field(4, ge=1)
    """Layers per block whose output error is measured together."""
    steps: int = Field(32, ge=1)
    """Calibration batches that the mean error is taken over."""
    interested_layers: Layers = None
    """Only these ops; null or [] means every op."""


class WeightSplit(PassSection):
    """Horizontal layer split: halves outlying weights into two parallel convolutions."""

    interested_layers: list[str] | None = None
    """The layers to split. Each costs the chip one Add, so there is no "all": a list is needed."""
    value_threshold: float = Field(2.0, gt=0)
    """Weights of a larger magnitude are split."""
    method: Literal["balance", "random"] = "balance"
    """How an outlying weight is shared between the two halves."""


class _Training(PassSection):
    lr: float = Field(1e-5, gt=0)
    """Learning rate."""
    steps: int = Field(500, ge=1)
    """Training steps per block."""
    block_size: int = Field(4, ge=1)
    """Layers per block; a block is trained against its own float output."""
    is_scale_trainable: bool = True
    """The scales are trained as well as the weights."""
    gamma: float = Field(0.0, ge=0)
    """Weight of the error of the quantized weights themselves in the loss."""
    collecting_device: Literal["cpu", "cuda", "executor"] | None = None
    """Where block inputs and outputs are kept; null means the contract's device."""
    interested_layers: Layers = None
    """Only these ops; null or [] means every op."""


class TqtOptimization(_Training):
    """Trained quantization thresholds (Jain et al., arXiv:1903.08066): weights and log2 scales."""

    int_lambda: float = Field(0.0, ge=0)
    """Weight of the penalty on scales between two powers of two."""


class LsqOptimization(_Training):
    """Learned step size (Esser et al., arXiv:1902.08153); not usable with power-of-two scales."""


class BlockwiseReconstruction(_Training):
    """esp-ppq's AdaroundPass: trains the weights of each block with frozen scales."""

    lr: float = Field(1e-3, gt=0)
    """Learning rate."""
    steps: int = Field(5000, ge=1)
    """Training steps per block."""
    gamma: float = Field(1.0, ge=0)
    """Weight of the error of the quantized weights themselves in the loss."""
    is_scale_trainable: bool = False
    """Forced to false on chips with power-of-two scales."""


class FusionAlignment(_Section):
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


class Dispatch(_Section):
    """The width of one op, by its name in the simplified graph."""

    op: str = Field(min_length=1, validation_alias=AliasChoices("op", "op_name"))
    """The op's name, as simplified_ops.json lists it; `op_name` is read as well."""
    bits: Literal[8, 16]
    """16 costs the chip about twice the cycles and the activation memory of the op."""


class Setting(_Section):
    """Everything that one iteration changes from plain 8-bit calibration."""

    iteration_id: int = Field(ge=0)
    """The number of the iteration; the name of its folder, iter_<N>, decides."""
    rationale: str = ""
    """Why this setting; several changes at once cite the iterations that speak for them."""
    calib_algorithm: Annotated[CalibAlgorithm, BeforeValidator(_lower)] | None = None
    """How activations are scaled; null is esp-ppq's default: kl, at `num_of_bits` 16 minmax."""
    equalization: Equalization | None = None
    """Layer-wise equalization."""
    bias_correct: BiasCorrect | None = None
    """Bias correction."""
    weight_split: WeightSplit | None = None
    """Horizontal layer split."""
    tqt_optimization: TqtOptimization | None = None
    """Trained quantization thresholds."""
    lsq_optimization: LsqOptimization | None = None
    """Learned step size."""
    blockwise_reconstruction: BlockwiseReconstruction | None = None
    """Blockwise reconstruction."""
    fusion_alignment: FusionAlignment | None = None
    """Common scales at multi-input ops."""
    dispatching_table: list[Dispatch] | None = None
    """Ops with a width of their own."""
    extra: dict[str, Any] | None = None
    """Further attributes of esp-ppq's QuantizationSetting, set after all others."""


PASS_FIELDS = (
    "equalization",
    "bias_correct",
    "weight_split",
    "tqt_optimization",
    "lsq_optimization",
    "blockwise_reconstruction",
)
"""The fields of :class:`Setting` whose sections have an ``enabled`` switch."""


_DEFAULT_CALIBRATION: dict[int, CalibAlgorithm] = {8: "kl", 16: "minmax"}
"""Of activations, by the contract's width: ``QuantizationSettingFactory.espdl_setting``."""

DEFAULT_BITS = 8
"""The width that is assumed where nothing says what it is."""


def default_calibration(num_of_bits: int = DEFAULT_BITS) -> CalibAlgorithm:
    """Return what esp-ppq calibrates activations with where a setting names nothing."""
    return _DEFAULT_CALIBRATION[num_of_bits]


def with_calibration(setting: Setting, num_of_bits: int) -> Setting:
    """Return the setting with its calibration spelled out.

    What null means depends on the contract's width, which a setting does not hold: wherever the
    width is known, settings that are compared, keyed or described pass through here first.
    """
    if setting.calib_algorithm is not None:
        return setting
    return setting.model_copy(update={"calib_algorithm": default_calibration(num_of_bits)})


def baseline(iteration_id: int = 0, num_of_bits: int | None = DEFAULT_BITS) -> Setting:
    """Return the setting of a baseline: esp-ppq's own defaults and nothing else.

    Args:
        iteration_id: its number.
        num_of_bits: the contract's default width, by which esp-ppq's calibration differs; None
            where it is not known, which leaves the choice to esp-ppq.
    """
    name = None if num_of_bits is None else default_calibration(num_of_bits)
    told = "" if name is None else f" ({name} calibration)"
    return Setting(
        iteration_id=iteration_id,
        rationale=f"Baseline: esp-ppq's default ESP-DL setting{told}, no other pass.",
        calib_algorithm=name,
    )
