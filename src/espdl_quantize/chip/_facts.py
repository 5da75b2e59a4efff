"""What the rules need to know of a chip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from espdl_quantize.ppq import has_vector_unit, probe_target
from espdl_quantize.targets import Rounding
from espdl_quantize.targets.ops import Version, lacks_16_bits, op_table


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


RUNTIME_OPS = frozenset(op_table().ops)
"""What ESP-DL has a kernel for; a model with another op does not load."""

SHARES_INPUT = _names("Flatten Identity Reshape Squeeze Unsqueeze")
"""Ops whose output is their input under another shape: the bytes stay as they are, for free."""

OVERWRITES_INPUT = _names(
    "Add And Clip DequantizeLinear Elu Equal Exp Gelu Greater GreaterOrEqual HardSigmoid HardSwish "
    "LUT LayerNormalization LeakyRelu Less LessOrEqual Log LpNormalization Max Min Mod Neg Not Or "
    "PRelu QuantizeLinear RMSNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
    "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu RequantizeLinear "
    "ReverseSequence ScatterND Sigmoid Sqrt Swish Tanh Xor"
)
"""Ops that may write their output over an input. Mul, Sub, Div and Pow are not among them."""

TABLED = _names("Clip Elu Exp Gelu HardSigmoid HardSwish LUT LeakyRelu Log Sigmoid Sqrt Swish Tanh")
"""Ops of one value that a table of 256 results takes the place of."""

FLOAT = _names(
    "Div Elu Exp GRU HardSigmoid HardSwish LSTM LayerNormalization Log LogSoftmax LpNormalization "
    "Mod Pow RMSNormalization Sigmoid Softmax Sqrt Swish Tanh"
)
"""Ops that are computed in float where no table takes their place."""

COPIES = _names("Concat DepthToSpace Gather Pad Slice SpaceToDepth Split")
"""Ops that copy bytes and compute nothing."""

CONVERTS = _names("DequantizeLinear QuantizeLinear RequantizeLinear")
"""Ops that go from one width or exponent to another."""

ONE_BY_ONE = _names("InsertZeros ReverseSequence ScatterND StreamingCache")
"""Ops whose kernels handle one element at a time."""

MOVES = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Flatten",
        "Gather",
        "GlobalMaxPool",
        "Identity",
        "InsertZeros",
        "MaxPool",
        "Pad",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "ReverseSequence",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "StreamingCache",
        "Transpose",
        "Unsqueeze",
    }
)
"""Ops that hand integers on as they are: esp-ppq's ``PASSIVE_OPERATIONS``, Concat (which its
alignment pass treats alike) and the rearrangements of pixels."""

SUMS = frozenset({"Conv", "Gemm", "MatMul"})
"""Ops that sum products, with weights of their own or not."""

RAW_SUMS = frozenset({"Add", "Sub"})
"""Ops that add the integers of their inputs, whatever the exponents are."""

COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
"""Ops that compare the integers of their inputs, whatever the exponents are."""

_COMPARED = _names(
    "Add AveragePool Clip Concat Conv ConvTranspose DepthToSpace Elu Exp Flatten Gather Gelu Gemm "
    "GlobalAveragePool HardSigmoid HardSwish Identity InsertZeros LeakyRelu Log MatMul MaxPool Mul "
    "Neg PPQBiasFusedMatMul Pad ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Sigmoid "
    "Slice SpaceToDepth Split Sqrt Squeeze Sub Swish Tanh Transpose Unsqueeze"
)
WITH_16_BITS = _COMPARED - lacks_16_bits()
"""Ops that are promoted to 16 bits: ESP-DL 3.3.9 has integer kernels of both widths for them, or a
table takes their place. Resize of int16 is an empty function there. GRU, LSTM and normalisations
have kernels whose numbers nobody has compared at 16 bits; they stay as they are."""

_INT8, _INT16 = "int8", "int16"
WIDTHS: dict[str, tuple[str, str]] = {
    "S8": (_INT8, _INT8),
    "S16": (_INT16, _INT16),
    "W8A16": (_INT16, _INT8),
}
"""Types of activations and weights by ``quant_type``."""


@dataclass(frozen=True)
class ChipFacts:
    """What a chip computes with, for models of one default width.

    Attributes:
        name: the chip.
        per_channel: whether weights and biases may have an exponent per output channel.
        rounding: of what is shifted out.
        accumulator_bits: of a sum of products, by type of the activations. esp-ppq clips biases to
            it (``_PLATFORM_CONFIGS`` in ``EspdlQuantizer.py``).
        vector_unit: whether ESP-DL computes sums in the chip's vector unit.
        esp_dl: the version of ESP-DL that the model is for; None where it is not known.
    """

    name: str
    per_channel: bool
    rounding: Rounding
    accumulator_bits: dict[str, int]
    vector_unit: bool
    esp_dl: Version | None = None


@cache
def chip_facts(chip: str, *, esp_dl: Version | None = None) -> ChipFacts:
    """Return the facts of a chip, as the installed esp-ppq has them.

    Args:
        chip: one of :func:`espdl_quantize.targets.target_names`.
        esp_dl: the version of ESP-DL that the model is for; None where it is not known.

    Raises:
        InstallationError: the installed esp-ppq does not know the chip.
    """
    narrow, wide = probe_target(chip, 8), probe_target(chip, 16)
    return ChipFacts(
        name=chip,
        per_channel=narrow.per_channel_weights,
        rounding=narrow.rounding,
        accumulator_bits={_INT8: narrow.bias_bits, _INT16: wide.bias_bits},
        vector_unit=has_vector_unit(chip),
        esp_dl=esp_dl,
    )
