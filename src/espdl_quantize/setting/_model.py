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
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PassSection(_Section):
    """A pass that runs only where ``enabled`` is true."""

    enabled: bool = False


class Equalization(PassSection):
    """Layer-wise equalization: moves a per-channel factor between neighbouring weights."""

    iterations: int = Field(10, ge=1)
    value_threshold: float = Field(0.5, ge=0)
    opt_level: Literal[1, 2] = 1
    including_bias: bool = False
    including_act: bool = False
    interested_layers: Layers = None


class BiasCorrect(PassSection):
    """Bias correction: adds the mean output error of a block back into its biases."""

    block_size: int = Field(4, ge=1)
    steps: int = Field(32, ge=1)
    interested_layers: Layers = None


class WeightSplit(PassSection):
    """Horizontal layer split: halves outlying weights into two parallel convolutions."""

    interested_layers: list[str] | None = None
    value_threshold: float = Field(2.0, gt=0)
    method: Literal["balance", "random"] = "balance"


class _Training(PassSection):
    lr: float = Field(1e-5, gt=0)
    steps: int = Field(500, ge=1)
    block_size: int = Field(4, ge=1)
    is_scale_trainable: bool = True
    gamma: float = Field(0.0, ge=0)
    collecting_device: Literal["cpu", "cuda", "executor"] | None = None
    """Where block inputs and outputs are kept; None means the contract's device."""
    interested_layers: Layers = None


class TqtOptimization(_Training):
    """Trained quantization thresholds (Jain et al., arXiv:1903.08066): weights and log2 scales."""

    int_lambda: float = Field(0.0, ge=0)


class LsqOptimization(_Training):
    """Learned step size (Esser et al., arXiv:1902.08153); not usable with power-of-two scales."""


class BlockwiseReconstruction(_Training):
    """esp-ppq's AdaroundPass: trains the weights of each block with frozen scales."""

    lr: float = Field(1e-3, gt=0)
    steps: int = Field(5000, ge=1)
    gamma: float = Field(1.0, ge=0)
    is_scale_trainable: bool = False


class FusionAlignment(_Section):
    """Common scales for the inputs of multi-input ops; None keeps the ESP-DL default."""

    align_avgpooling_to: InputOrOutput | None = None
    align_elementwise_to: LargeOrOutput | None = None
    align_concat_to: LargeOrOutput | None = None
    align_resize_to: InputOrOutput | None = None
    force_alignment_overlap: bool | None = None


class Dispatch(_Section):
    """The width of one op, by its name in the simplified graph."""

    op: str = Field(min_length=1, validation_alias=AliasChoices("op", "op_name"))
    bits: Literal[8, 16]


class Setting(_Section):
    """Everything that one iteration changes from plain 8-bit calibration."""

    iteration_id: int = Field(ge=0)
    rationale: str = ""
    calib_algorithm: Annotated[CalibAlgorithm, BeforeValidator(_lower)] | None = None
    equalization: Equalization | None = None
    bias_correct: BiasCorrect | None = None
    weight_split: WeightSplit | None = None
    tqt_optimization: TqtOptimization | None = None
    lsq_optimization: LsqOptimization | None = None
    blockwise_reconstruction: BlockwiseReconstruction | None = None
    fusion_alignment: FusionAlignment | None = None
    dispatching_table: list[Dispatch] | None = None
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


def baseline(iteration_id: int = 0) -> Setting:
    """Return the setting of a baseline: esp-ppq's own defaults and nothing else."""
    return Setting(
        iteration_id=iteration_id,
        rationale="Baseline: esp-ppq's default ESP-DL setting (kl calibration), no other pass.",
        calib_algorithm="kl",
    )
