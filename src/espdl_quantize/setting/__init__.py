"""The setting model: its schema, its rules, and what differs between two settings.

Nothing here imports torch; :mod:`espdl_quantize.ppq` maps a setting to esp-ppq's own.
"""

from espdl_quantize.setting._canonical import Change, canonical, diff, setting_key
from espdl_quantize.setting._cost import RuntimeCost, int16_ops, runtime_cost
from espdl_quantize.setting._model import (
    DEFAULT_BITS,
    Dispatch,
    FusionAlignment,
    InputOrOutput,
    LargeOrOutput,
    Setting,
    baseline,
    default_calibration,
    json_schema,
    with_calibration,
)
from espdl_quantize.setting._one_exponent import ONE_EXPONENT_OPS, unequal_exponents
from espdl_quantize.setting._parse import load_setting, nearest, parse_setting
from espdl_quantize.setting._resolve import (
    ResolvedSetting,
    UnknownOp,
    resolve,
    unknown_op_warnings,
    unknown_ops,
)
from espdl_quantize.setting.passes import (
    BLOCK_PASSES,
    PASSES,
    TRAINING_PASSES,
    BiasCorrect,
    BlockwiseReconstruction,
    ChannelSplit,
    Equalization,
    Knob,
    LsqOptimization,
    PassSection,
    PassSpec,
    TqtOptimization,
    WeightSplit,
    enabled_passes,
    split_layers,
)

__all__ = [
    "BLOCK_PASSES",
    "DEFAULT_BITS",
    "ONE_EXPONENT_OPS",
    "PASSES",
    "TRAINING_PASSES",
    "BiasCorrect",
    "BlockwiseReconstruction",
    "Change",
    "ChannelSplit",
    "Dispatch",
    "Equalization",
    "FusionAlignment",
    "InputOrOutput",
    "Knob",
    "LargeOrOutput",
    "LsqOptimization",
    "PassSection",
    "PassSpec",
    "ResolvedSetting",
    "RuntimeCost",
    "Setting",
    "TqtOptimization",
    "UnknownOp",
    "WeightSplit",
    "baseline",
    "canonical",
    "default_calibration",
    "diff",
    "enabled_passes",
    "int16_ops",
    "json_schema",
    "load_setting",
    "nearest",
    "parse_setting",
    "resolve",
    "runtime_cost",
    "setting_key",
    "split_layers",
    "unequal_exponents",
    "unknown_op_warnings",
    "unknown_ops",
    "with_calibration",
]
