"""Fake quantization of flat arrays, compiled by numba: one read and one write per element.

Plain torch needs about ten passes over memory for the same arithmetic. An activation of the form
``min(max(x, least), most)`` is computed on the way: Relu, Clip, or none, where the bounds are
infinite.

``up`` tells how halves are rounded: upwards where true, else to even, as numpy.rint does. All
arithmetic is in the precision of the arrays. Arrays are cut into pieces of a fixed size, which the
threads share, so that sums do not depend on how many threads there are. The compiled code is cached
on disk.

The gradient of the scale is that of Jain et al., "Trained Quantization Thresholds" (2020), with
the straight-through estimator for the rounding, as esp-ppq computes it.
"""

# Compiled code is seen by neither a coverage tool nor a type checker.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

PIECE = 16384
"""Elements that one thread takes at a time, 64 kB of float32."""

_CHUNK = 4096
"""Elements summed in the precision of the data; the sums of chunks add up in double precision."""


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function of arrays and scalars; keep the code on disk where that is possible."""
    jit = functools.partial(numba.njit, nogil=True, error_model="numpy", **options)
    try:
        return jit(cache=True)(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written to.
        return jit()(function)


in_parallel = functools.partial(compiled, parallel=True)


@compiled
def _rounded(value, up, half):  # pragma: no cover
    return np.floor(value + half) if up else np.rint(value)


@compiled
def _forward(x, inverse, scale, low, high, up, half, least, most, out):  # pragma: no cover
    # The order of the arguments of min and max lets NaN through, as torch.clamp does; esp-ppq adds
    # an offset of 0, which turns -0 into 0.
    for i in range(x.size):
        bounded = min(max(x[i], least), most)
        value = _rounded(bounded * inverse, up, half) + (low - low)
        out[i] = min(max(value, low), high) * scale


@in_parallel
def forward(x, scale, low, high, up, least, most, out):  # pragma: no cover
    """Write clip(round(min(max(x, least), most) / scale)) * scale of flat arrays into ``out``."""
    kind = x.dtype.type
    inverse, scale, low, high = kind(1 / scale), kind(scale), kind(low), kind(high)
    half, least, most = kind(0.5), kind(least), kind(most)
    for piece in numba.prange((x.size + PIECE - 1) // PIECE):
        i, j = piece * PIECE, min((piece + 1) * PIECE, x.size)
        _forward(x[i:j], inverse, scale, low, high, up, half, least, most, out[i:j])


@compiled
def forward_channels(x, scale, low, high, up, out):  # pragma: no cover
    """Do the same without bounds for ``[outer, channel, inner]``, one scale per channel."""
    kind = x.dtype.type
    fixed = kind(low), kind(high), up, kind(0.5), kind(-np.inf), kind(np.inf)
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            _forward(x[i, c], kind(1 / scale[c]), kind(scale[c]), *fixed, out[i, c])


def _chunk(x, dy, inverse, low, high, up, half, least, most, strict, dx):  # pragma: no cover
    total = low - low
    for i in range(x.size):
        bounded = min(max(x[i], least), most)
        exact = bounded * inverse
        value = _rounded(exact, up, half)
        clipped = min(max(value, low), high)
        inside = value == clipped
        total += dy[i] * (clipped - exact) if inside else dy[i] * clipped
        # At a bound, the gradient of Relu is 0, that of Clip is 1.
        passes = (x[i] > least) & (x[i] < most) if strict else bounded == x[i]
        dx[i] = dy[i] if inside & passes else low - low
    return total


# Sums in any order, so that they run in vector registers.
_summed = compiled(_chunk, fastmath={"reassoc", "contract", "nsz"})


@compiled
def _backward(x, dy, inverse, low, high, up, half, least, most, strict, dx):  # pragma: no cover
    total = 0.0
    for i in range(0, x.size, _CHUNK):
        j = min(i + _CHUNK, x.size)
        total += _summed(
            x[i:j], dy[i:j], inverse, low, high, up, half, least, most, strict, dx[i:j]
        )
    return total


@in_parallel
def backward(x, dy, scale, low, high, up, least, most, strict, dx):  # pragma: no cover
    """Write the gradient of ``x`` into ``dx``, and return that of the scale; flat arrays.

    Args:
        strict: no gradient passes at the bounds themselves.
    """
    kind = x.dtype.type
    inverse, low, high = kind(1 / scale), kind(low), kind(high)
    half, least, most = kind(0.5), kind(least), kind(most)
    count = (x.size + PIECE - 1) // PIECE
    totals = np.empty(count)
    for piece in numba.prange(count):
        i, j = piece * PIECE, min((piece + 1) * PIECE, x.size)
        totals[piece] = _backward(
            x[i:j], dy[i:j], inverse, low, high, up, half, least, most, strict, dx[i:j]
        )
    total = 0.0
    for piece in range(count):
        total += totals[piece]
    return total


@compiled
def backward_channels(x, dy, scale, low, high, up, dx, total):  # pragma: no cover
    """Do the same without bounds for ``[outer, channel, inner]``; ``total`` is per channel."""
    kind = x.dtype.type
    fixed = kind(low), kind(high), up, kind(0.5), kind(-np.inf), kind(np.inf), False
    total[:] = 0.0
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            total[c] += _backward(x[i, c], dy[i, c], kind(1 / scale[c]), *fixed, dx[i, c])
