"""What calibration counts and searches, compiled by numba: the same numbers, without Python loops.

See :mod:`espdl_quantize.ppq.fast._kernels` for how the compiled code is kept.
"""

# Compiled code is seen by neither a coverage tool nor a type checker.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numba
import numpy as np

from espdl_quantize.ppq.fast._kernels import compiled, in_parallel

HALVES = 1 << 16
"""Values of one half of a float32's bits."""


@in_parallel
def histogram_of_sizes(x, limit, parts):  # pragma: no cover
    """Add the histogram of |x| over [0, limit] to ``parts``; what lies outside is left out.

    The place of a value is found by the arithmetic of torch.histc: multiplied by the number of
    bins, divided by the range, cut off, in the precision of the data. Each thread counts a part of
    the values into a row of its own.
    """
    threads, last = len(parts), parts.shape[1] - 1
    bins = x.dtype.type(parts.shape[1])
    for part in numba.prange(threads):
        counts = parts[part]
        for i in range(x.size * part // threads, x.size * (part + 1) // threads):
            size = abs(x[i])
            if size <= limit:
                counts[min(int(size * bins / limit), last)] += 1


@compiled
def _ordered(bits):  # pragma: no cover
    # As unsigned integers, these are ordered as the floats are.
    return ~bits if bits >> np.uint32(31) else bits | np.uint32(0x80000000)


@in_parallel
def count_upper_halves(bits, parts):  # pragma: no cover
    """Count the upper 16 bits of float32 numbers, given as uint32, in the floats' order."""
    threads = len(parts)
    for part in numba.prange(threads):
        counts = parts[part]
        for i in range(bits.size * part // threads, bits.size * (part + 1) // threads):
            counts[_ordered(bits[i]) >> np.uint32(16)] += 1


@in_parallel
def count_lower_halves(bits, first, second, parts):  # pragma: no cover
    """Count the lower 16 bits of the numbers that have either of two upper halves.

    ``parts`` is [threads, 2, HALVES].
    """
    threads = len(parts)
    for part in numba.prange(threads):
        counts = parts[part]
        for i in range(bits.size * part // threads, bits.size * (part + 1) // threads):
            key = _ordered(bits[i])
            upper, lower = key >> np.uint32(16), key & np.uint32(0xFFFF)
            if upper == first:
                counts[0, lower] += 1
            if upper == second:
                counts[1, lower] += 1


@compiled
def mse_of_range(counts, total, start, step, end):  # pragma: no cover
    """Return the error of quantizing a histogram with steps of ``step`` bins from start to end.

    The terms and their order are those of esp-ppq's TorchMSEObserver.compute_mse_loss.
    """
    loss = 0.0
    for place in range(counts.size):
        if place < start:
            error = (start - place - 1) + 0.5
        elif place > end:
            error = (place - end) + 0.5
        else:
            left = (place - start) % step
            right = step - left - 1
            error = left + 0.25 if left == right else min(left + 0.5, right + 0.5)
        loss += (counts[place] * error * error) / total
    return loss
