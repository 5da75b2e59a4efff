"""What each chip's quantizer can do, read from the installed esp-ppq."""

from espdl_quantize.targets._facts import Rounding, TargetFacts
from espdl_quantize.targets._probe import probe_target, target_names

__all__ = ["Rounding", "TargetFacts", "probe_target", "target_names"]
