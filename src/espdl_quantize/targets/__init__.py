"""What each chip's quantizer does."""

from espdl_quantize.targets._facts import Rounding, TargetFacts

__all__ = ["Rounding", "TargetFacts"]
