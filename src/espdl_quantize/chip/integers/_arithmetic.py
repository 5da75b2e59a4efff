"""The few integer operations that everything on the chip comes down to."""

from __future__ import annotations

import torch
from torch import Tensor

from espdl_quantize.targets import Rounding

LIMITS = {"int8": (-128, 127), "int16": (-32768, 32767)}
_DEEPEST = 62
"""Bits of a shift that leave nothing of an int64, so that a deeper one comes to the same."""


def rescale(
    total: Tensor, shift: Tensor | int, rounding: Rounding, divisor: Tensor | int = 1
) -> Tensor:
    """Return ``total / (divisor * 2**shift)``, rounded, computed in integers.

    Args:
        total: int64, below 2**53 in magnitude.
        shift: bits to drop; a negative one shifts left. Broadcast against ``total``.
        rounding: of a value halfway between two integers.
        divisor: positive; the number of addends of a mean.
    """
    bits = torch.as_tensor(shift, dtype=torch.int64)
    # A left shift is done in double precision, where it is exact, and cut off far outside of any
    # type that the result is stored in.
    left = 2.0 ** (-bits).clamp(min=0).double()
    total = (total.double() * left).clamp(-(2.0**53), 2.0**53).long()
    space = torch.as_tensor(divisor, dtype=torch.int64)
    # With the divisor's own bits taken off, the product below fits into 63 bits.
    room = _DEEPEST - int(space.max()).bit_length()
    unit = space << bits.clamp(0, room)
    whole = torch.div(total, unit, rounding_mode="floor")
    rest = total - whole * unit
    # Halves are found without doubling the rest, which may not fit.
    above, half = rest > unit - rest, rest == unit - rest
    up = half if rounding == "half-up" else half & (whole % 2 == 1)
    return whole + (above | up)


def saturate(values: Tensor, dtype: str) -> Tensor:
    """Return values clipped to "int8" or "int16", still as int64."""
    return values.clamp(*LIMITS[dtype])


def to_integers(values: Tensor, exponent: int, dtype: str, rounding: Rounding) -> Tensor:
    """Quantize real values: int64 of ``values / 2**exponent``, rounded and saturated."""
    scaled = values.detach().cpu().double() * 2.0**-exponent
    rounded = torch.floor(scaled + 0.5) if rounding == "half-up" else scaled.round()
    low, high = LIMITS[dtype]
    return rounded.clamp(low, high).long()


def to_reals(values: Tensor, exponent: int) -> Tensor:
    """Return what integers stand for, as float32; exact for up to 24 bits."""
    return (values.double() * 2.0**exponent).float()
