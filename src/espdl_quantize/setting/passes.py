"""Every pass that a setting can turn on, esp-ppq's and our own: its fields, and all that is known.

To add a pass, write its section, add its field to :class:`PassFields` and its entry to
:data:`PASSES`. Schema, translation to esp-ppq, canonical form, lint, policies, advice and reports
read the table; a lever of its own goes into one file under ``search/levers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from espdl_quantize.core import Engine
from espdl_quantize.setting._section import Section
from espdl_quantize.targets import TargetFacts


def _empty_means_all(value: object) -> object:
    return None if value == [] else value


Layers = Annotated[list[str] | None, BeforeValidator(_empty_means_all)]
"""Names of ops in the simplified graph; None (also written as ``[]``) means every op."""


class PassSection(Section):
    """A pass that runs only where ``enabled`` is true."""

    enabled: bool = False
    """The pass runs only where this is true."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The ops that it is limited to; empty where there is no limit."""
        names: list[str] | None = getattr(self, "interested_layers", None)
        return tuple(dict.fromkeys(names or ()))


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


class ChannelSplit(PassSection):
    """Channel split (Zhao et al., arXiv:1901.09504): doubles outlying channels at half the size.

    The network computes the same, with more channels; each costs the chip its multiplications.
    """

    iterations: int = Field(10, ge=1)
    """How often all pairs of layers are gone over; each time may split a channel again."""
    value_threshold: float = Field(0.5, ge=0)
    """A channel is split where weights on both sides of the pair reach this."""
    opt_level: Literal[1, 2] = 1
    """1 follows plain chains only; 2 also crosses Add and Sub."""
    including_bias: bool = False
    """Biases count as weights when the channels are chosen."""
    including_act: bool = False
    """Activations count, too."""
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


class ExponentSearch(PassSection):
    """A search over the integer exponents, by what the outputs lose; no pass of esp-ppq's."""

    samples: int = Field(128, ge=1)
    """Calibration samples that judge a move, at most; those that calibration did not see first."""
    rounds: int = Field(3, ge=1)
    """How often all exponents are gone over, at most; it ends earlier where nothing moves."""
    interested_layers: Layers = None
    """Only what these ops read and write; null or [] means every op."""


class PassFields(Section):
    """The passes of a setting; null leaves a pass off."""

    equalization: Equalization | None = None
    """Layer-wise equalization."""
    bias_correct: BiasCorrect | None = None
    """Bias correction."""
    weight_split: WeightSplit | None = None
    """Horizontal layer split."""
    channel_split: ChannelSplit | None = None
    """Channel split."""
    tqt_optimization: TqtOptimization | None = None
    """Trained quantization thresholds."""
    lsq_optimization: LsqOptimization | None = None
    """Learned step size."""
    blockwise_reconstruction: BlockwiseReconstruction | None = None
    """Blockwise reconstruction."""
    exponent_search: ExponentSearch | None = None
    """Exponent search."""


@dataclass(frozen=True)
class Knob:
    """A number of a pass that a search may turn.

    Attributes:
        field: of the pass's section.
        values: common ones, ascending; a search steps from one to the next.
        advice: which are worth a try, in words.
        is_choice: the values are names of ways, of which none goes further than another.
    """

    field: str
    values: tuple[float, ...]
    advice: str
    is_choice: bool = False


@dataclass(frozen=True)
class PassSpec:
    """What is known of one pass.

    Attributes:
        field: of :class:`Setting`, and the switch of esp-ppq's QuantizationSetting where the pass
            is esp-ppq's.
        model: its section.
        pass_name: what it is called as progress shows it.
        trains: it trains block by block, for ``steps`` steps each.
        shown: the parameters that a description in one line names; empty for all.
        knobs: see :class:`Knob`. Ranges are from the comments of esp-ppq's setting.py and from
            tuning runs.
        variants: other ways to turn it on than its lever's.
        prior: mean and deviation of what turning it on gains, as shares of the gap that is open,
            before anything is known of a network.
        trigger: the rule of the playbook that asks for it.
        excludes: passes that it cannot run with.
        on_power_of_two: what becomes of it where scales are powers of two.
        needs_layers: its list of layers cannot be left out.
        adds_to_chip: what each of its layers adds to the exported model; empty for nothing.
        why_off: what the pass cannot do with power-of-two scales, where it is off on them.
        surprises: warns of what its parameters do on a target that a user may not expect.
        own: it is no pass of esp-ppq's.
        forwards_per_step: by engine, what one of its ``steps`` over all blocks takes, in forwards
            of the float model on one batch; None for a pass without steps.
    """

    field: str
    model: type[PassSection]
    pass_name: str
    trains: bool = False
    shown: tuple[str, ...] = ()
    knobs: tuple[Knob, ...] = ()
    variants: tuple[PassSection, ...] = ()
    prior: tuple[float, float] = (0.0, 0.05)
    trigger: str | None = None
    excludes: tuple[str, ...] = ()
    on_power_of_two: Literal["runs", "off", "frozen scales"] = "runs"
    needs_layers: bool = False
    adds_to_chip: str = ""
    why_off: str = ""
    surprises: Callable[[Any, TargetFacts], Iterator[str]] | None = None
    own: bool = False
    forwards_per_step: Mapping[Engine, float] | None = None

    @property
    def goes_by_blocks(self) -> bool:
        """Whether esp-ppq runs it block by block, each on its own layers."""
        return "block_size" in self.model.model_fields

    @property
    def parameters(self) -> str:
        """The attribute of esp-ppq's QuantizationSetting that holds the pass's parameters."""
        return f"{self.field}_setting"

    @property
    def layers_field(self) -> str:
        """The path of the list of layers that it works on."""
        return f"{self.field}.interested_layers"


def _surprises_of_equalization(section: Equalization, target: TargetFacts) -> Iterator[str]:
    if target.per_channel_weights:
        yield (
            f"equalization on {target.name}, which scales weights per channel: esp-ppq does not "
            "recommend the combination; it runs, since it helps on some depthwise networks"
        )
    if "opt_level" not in section.model_fields_set:
        yield (
            "equalization.opt_level is not given: esp-ppq's level 1 skips every chain that crosses "
            "an Add or Sub; set opt_level 2 to include residual blocks"
        )


_TRAINING_SHOWN = ("lr", "steps", "block_size")
_TRAINING_FORWARDS = {Engine.FAST: 2.5, Engine.REFERENCE: 10.0}

PASSES: Mapping[str, PassSpec] = {
    spec.field: spec
    for spec in (
        PassSpec(
            "equalization",
            Equalization,
            "layerwise equalization",
            shown=("iterations", "value_threshold", "opt_level"),
            knobs=(
                Knob(
                    "opt_level",
                    (1, 2),
                    "1 (single branches) or 2 (across Add and Sub)",
                    is_choice=True,
                ),
                Knob("iterations", (3, 10, 30, 100), "1, 3, 10, 100"),
                Knob("value_threshold", (0.5, 1.0, 2.0), "0.5 or 2"),
            ),
            variants=(
                Equalization(enabled=True, iterations=10, value_threshold=0.5, opt_level=1),
                Equalization(enabled=True, iterations=3, value_threshold=2.0, opt_level=2),
            ),
            prior=(0.03, 0.15),
            trigger="R3",
            surprises=_surprises_of_equalization,
        ),
        PassSpec(
            "bias_correct",
            BiasCorrect,
            "bias correction",
            shown=("block_size", "steps"),
            knobs=(
                Knob("block_size", (1, 2, 4), "1 to 4; smaller is finer"),
                Knob("steps", (8, 16, 32, 64), "8 to 64"),
            ),
            variants=(
                BiasCorrect(enabled=True, block_size=1, steps=32),
                BiasCorrect(enabled=True, block_size=4, steps=64),
            ),
            prior=(0.02, 0.08),
            trigger="R5",
            forwards_per_step={Engine.FAST: 2.0, Engine.REFERENCE: 6.0},
        ),
        PassSpec(
            "weight_split",
            WeightSplit,
            "layer split(lateral)",
            shown=("interested_layers", "value_threshold"),
            knobs=(Knob("value_threshold", (1.5, 1.75, 2.0), "1.5 to 2.0"),),
            prior=(0.0, 0.05),
            trigger="R4",
            needs_layers=True,
            adds_to_chip="Add",
        ),
        PassSpec(
            "channel_split",
            ChannelSplit,
            "channelwise split",
            shown=("iterations", "value_threshold", "opt_level"),
            knobs=(
                Knob("iterations", (1, 3, 10), "1 to 10; each may split a channel again"),
                Knob("value_threshold", (0.5, 1.0, 2.0), "0.5 to 2; lower splits more channels"),
            ),
            prior=(0.0, 0.08),
            needs_layers=True,
            adds_to_chip="channels",
        ),
        PassSpec(
            "tqt_optimization",
            TqtOptimization,
            "tqt",
            trains=True,
            shown=_TRAINING_SHOWN,
            knobs=(
                Knob(
                    "lr",
                    (2e-6, 5e-6, 1e-5, 2e-5, 5e-5),
                    "1e-6 to 5e-5; 1e-4 was seen to lose accuracy",
                ),
                Knob(
                    "steps", (250, 500, 1000, 2000), "500 to 2000; 4000 was seen to lose accuracy"
                ),
                Knob("block_size", (2, 3, 4, 5), "2 to 5; smaller is steadier"),
            ),
            prior=(0.30, 0.30),
            trigger="R7",
            forwards_per_step=_TRAINING_FORWARDS,
        ),
        PassSpec(
            "lsq_optimization",
            LsqOptimization,
            "lsq",
            trains=True,
            shown=_TRAINING_SHOWN,
            excludes=("tqt_optimization", "blockwise_reconstruction"),
            on_power_of_two="off",
            why_off="esp-ppq's LSQ cannot train a scale; use tqt_optimization, which trains log2 "
            "scales",
            forwards_per_step=_TRAINING_FORWARDS,
        ),
        PassSpec(
            "blockwise_reconstruction",
            BlockwiseReconstruction,
            "block-wise adaround reconstruction",
            trains=True,
            shown=_TRAINING_SHOWN,
            knobs=(
                Knob("lr", (1e-4, 3e-4, 1e-3), "1e-4 to 1e-3"),
                Knob("steps", (1000, 2500, 5000), "1000 to 10000"),
                Knob("block_size", (2, 4, 6), "2 to 6"),
            ),
            prior=(0.06, 0.15),
            trigger="R10",
            on_power_of_two="frozen scales",
            forwards_per_step={**_TRAINING_FORWARDS, Engine.FAST: 5.0},
        ),
        PassSpec(
            "exponent_search",
            ExponentSearch,
            "exponent search",
            shown=("samples",),
            knobs=(Knob("samples", (64, 128, 256, 512), "64 to 512; more are surer, and slower"),),
            prior=(0.10, 0.25),
            own=True,
        ),
    )
}
"""Every pass by its field, in the order of a setting's fields."""

TRAINING_PASSES = tuple(name for name, spec in PASSES.items() if spec.trains)
"""The fields of the passes that train block by block."""

BLOCK_PASSES = (
    *TRAINING_PASSES,
    *(name for name, spec in PASSES.items() if spec.goes_by_blocks and not spec.trains),
)
"""The fields of the passes that go block by block through the same code of esp-ppq."""


def enabled_passes(setting: PassFields) -> Iterator[tuple[PassSpec, PassSection]]:
    """Yield the passes that a setting turns on, with their sections."""
    for name, spec in PASSES.items():
        section: PassSection | None = getattr(setting, name)
        if section is not None and section.enabled:
            yield spec, section


def split_layers(setting: PassFields) -> tuple[str, ...]:
    """Return the layers that weight_split splits."""
    split = setting.weight_split
    return split.layers if split is not None and split.enabled else ()
