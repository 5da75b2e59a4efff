"""What a chip's quantizer does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rounding = Literal["half-even", "half-up"]


@dataclass(frozen=True)
class TargetFacts:
    """Facts of one chip at one default width, as the installed esp-ppq implements them.

    Attributes:
        name: the chip name that esp-ppq accepts.
        num_of_bits: default width of activations and weights.
        power_of_two: scales are powers of two.
        per_channel_weights: weights of Conv and Gemm have one scale per output channel.
        rounding: how a value halfway between two integers is rounded.
        bias_bits: width of the bias of a Conv.
    """

    name: str
    num_of_bits: int
    power_of_two: bool
    per_channel_weights: bool
    rounding: Rounding
    bias_bits: int
