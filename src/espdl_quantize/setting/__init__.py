"""The setting model: its schema, its rules, and what differs between two settings.

Nothing here imports torch; :mod:`espdl_quantize.ppq` maps a setting to esp-ppq's own.
"""

from espdl_quantize.setting._canonical import Change, canonical, diff, setting_key
from espdl_quantize.setting._cost import RuntimeCost, int16_ops, runtime_cost, split_layers
from espdl_quantize.setting._model import (
    DEFAULT_BITS,
    PASS_FIELDS,
    BiasCorrect,
    BlockwiseReconstruction,
    Dispatch,
    Equalization,
    FusionAlignment,
    LsqOptimization,
    Setting,
    TqtOptimization,
    WeightSplit,
    baseline,
    default_calibration,
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
from espdl_quantize.setting._schema import json_schema

__all__ = [
    "DEFAULT_BITS",
    "ONE_EXPONENT_OPS",
    "PASS_FIELDS",
    "BiasCorrect",
    "BlockwiseReconstruction",
    "Change",
    "Dispatch",
    "Equalization",
    "FusionAlignment",
    "LsqOptimization",
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
