"""Every rule of the chip check: what breaks it, where that is known from, and an example.

The reference is made of this table, and ``tests/chip/test_rule_table.py`` breaks each rule by its
example: a rule without one fails there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RuleFacts:
    """One rule.

    Attributes:
        kind: whether a model that breaks it is refused, or only told of.
        broken_where: completes "an op breaks it where".
        source: where that is known from: files of ESP-DL begin with ``dl/``, names of esp-ppq stand
            as they are.
        example: what breaks it.
    """

    kind: Literal["fault", "doubt"] = "fault"
    broken_where: str
    source: str
    example: str


RULE_TABLE: dict[str, RuleFacts] = {
    "op type": RuleFacts(
        broken_where="ESP-DL has no such op, so that the model does not load, or a version is "
        "named that lacks it",
        source="`register_dl_modules` in `dl/module/include/dl_module_creator.hpp`",
        example="an Erf",
    ),
    "width": RuleFacts(
        broken_where="its kernel's width is none of ESP-DL's, or none that this op has, or its "
        "tensors have another",
        source="`InsertQuantTypePattern`; the switch over `quant_type` in each module of "
        "`dl/module/include`",
        example="an int8 Conv that puts out int16",
    ),
    "restriction": RuleFacts(
        broken_where="its kernel ignores an attribute, takes fewer dimensions, computes the first "
        "sample alone, or the like: [ops of ESP-DL](esp-dl-ops.md)",
        source="of each op, in the table of ops",
        example="a MaxPool of a dilation of 2",
    ),
    "mixed width": RuleFacts(
        broken_where="8-bit weights meet 16-bit activations in an op that has no such kernel",
        source="`_is_w8a16_mixed_precision_op`",
        example="a depthwise Conv of W8A16",
    ),
    "exponents": RuleFacts(
        broken_where="an activation has more than one exponent, or one beyond any shift; or "
        "weights have one per channel on a chip that takes one per tensor",
        source="`_P4_PLATFORMS` in `EspdlQuantizer.py`; shifts of a 32-bit integer",
        example="an input with the exponent -40",
    ),
    "shift": RuleFacts(
        broken_where="on a chip with a vector unit, the sum of products, or that of single "
        "channels with weights, would have to be shifted left into the output",
        source="`dl/base/isa`; `shift_and_round` in `dl/tool/src/dl_tool.cpp`",
        example="a Conv whose output has a lower exponent than its sum, on the esp32s3",
    ),
    "bias": RuleFacts(
        broken_where="the bias has another exponent than the sum it is added to, or does not fit "
        "into the accumulator",
        source="`bias_bits` of the chip's quantizer",
        example="a bias one exponent above its sum",
    ),
    "shared exponent": RuleFacts(
        broken_where="an op that hands integers on as they are has inputs and outputs of different "
        "scale",
        source="`PASSIVE_OPERATIONS` in `esp_ppq/core/common.py`",
        example="a MaxPool from the exponent -4 to -5",
    ),
    "streaming": RuleFacts(
        broken_where="a StreamingCache does not put out what its attributes say, joins bytes that "
        "are no whole frames, or what reads it pads the axis of time",
        source="`dl/module/include/dl_module_streaming_cache.hpp`",
        example="a StreamingCache of 3 frames that puts out no more than it reads",
    ),
    "one exponent": RuleFacts(
        broken_where="the inputs and the output of an Add or Sub, or the inputs of a comparison, "
        "have several exponents: ESP-DL's kernels read none, and add, subtract or compare raw "
        "integers. Constants count, too",
        source="ESP-DL 3.3.9's C kernels, run on a PC against exported models",
        example="an Add of the exponents -4 and -5",
    ),
    "lookup table": RuleFacts(
        broken_where="its table is missing, or of another length, type or scale than its output",
        source="`AddLUTPattern` and `HardwareEmulator`",
        example="a table of 255 entries",
    ),
    "weights": RuleFacts(
        broken_where="the packed weights are of another shape than its input and output ask for",
        source="`ResetParamLayoutPattern`",
        example="weights that take 4 channels, for an input of 8",
    ),
    "order": RuleFacts(
        broken_where="it reads what nothing has written yet; or nothing writes an output",
        source="`Graph.node` of the FlatBuffer's schema, `esp_ppq/parser/espdl`",
        example="an output that no op writes",
    ),
    "graph": RuleFacts(
        broken_where="the file says something else than the quantized graph: an op, a number, a "
        "name, a shape",
        source="the quantized graph that the file was exported from",
        example="a Conv that the graph does not have",
    ),
    "file": RuleFacts(
        broken_where="the file cannot be read at all",
        source="the header and schema of `esp_ppq/parser/espdl`",
        example="an empty file",
    ),
    "later version": RuleFacts(
        kind="doubt",
        broken_where="esp-ppq makes it on purpose for a later ESP-DL than the one that was looked "
        "at: its fused Attention, and 8-bit weights under 16-bit activations. A fault where a "
        "version that lacks it is named",
        source="`register_dl_modules` in `dl/module/include/dl_module_creator.hpp`",
        example="an Attention",
    ),
    "deep shift": RuleFacts(
        kind="doubt",
        broken_where="a vector unit shifts a sum by more bits than it has: nothing should be left, "
        "and no source says what is. C kernels shift in 64 bits",
        source="`shift_and_round` in `dl/tool/src/dl_tool.cpp`",
        example="a Conv that shifts its sum by 39, on the esp32s3",
    ),
}
"""By name: first what is looked at op by op, then the whole file, then the doubts."""
