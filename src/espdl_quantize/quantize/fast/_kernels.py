"""Fake quantization of flat arrays, compiled by numba: one read and one write per element.

Plain torch needs about ten passes over memory for the same arithmetic. Every function is bound by
memory, not by the processor, so that one thread is enough.

``up`` tells how halves are rounded: upwards where true, else to even, as numpy.rint does. Scalars
have the type of the arrays; ``half`` is 0.5. The compiled code is cached on disk.

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


@compiled
def _rounded(value, up, half):  # pragma: no cover
    return np.floor(value + half) if up else np.rint(value)


@compiled
def forward(x, inverse, scale, low, high, half, up, out):  # pragma: no cover
    """Write clip(round(x / scale)) * scale of flat arrays into ``out``."""
    # The order of the arguments of min and max lets NaN through, as torch.clamp does; esp-ppq adds
    # an offset of 0, which turns -0 into 0.
    for i in range(x.size):
        value = _rounded(x[i] * inverse, up, half) + (low - low)
        out[i] = min(max(value, low), high) * scale


@compiled
def forward_channels(x, inverse, scale, low, high, half, up, out):  # pragma: no cover
    """Do the same for ``[outer, channel, inner]`` with arrays of one scale per channel."""
    outer, count, _ = x.shape
    for i in range(outer):
        for c in range(count):
            forward(x[i, c], inverse[c], scale[c], low, high, half, up, out[i, c])


@compiled
def masked(x, dy, inverse, low, high, half, up, dx):  # pragma: no cover
    """Write ``dy`` into ``dx`` where nothing was clipped, else 0; flat arrays."""
    for i in range(x.size):
        value = _rounded(x[i] * inverse, up, half)
        dx[i] = dy[i] if value == min(max(value, low), high) else low - low


def _chunk(x, dy, inverse, low, high, half, up, dx):  # pragma: no cover
    total = low - low
    for i in range(x.size):
        exact = x[i] * inverse
        value = _rounded(exact, up, half)
        clipped = min(max(value, low), high)
        inside = value == clipped
        total += dy[i] * (clipped - exact) if inside else dy[i] * clipped
        dx[i] = dy[i] if inside else low - low
    return total


# Sums in any order, so that they run in vector registers.
_summed = compiled(_chunk, fastmath={"reassoc", "contract", "nsz"})


@compiled
def backward(x, dy, inverse, low, high, half, up, dx):  # pragma: no cover
    """Do as :func:`masked`, and return the gradient of the scale."""
    total = 0.0
    for start in range(0, x.size, _CHUNK):
        end = min(start + _CHUNK, x.size)
        total += _summed(x[start:end], dy[start:end], inverse, low, high, half, up, dx[start:end])
    return total


@compiled
def backward_channels(x, dy, inverse, low, high, half, up, dx, total):  # pragma: no cover
    """Do the same for ``[outer, channel, inner]``; ``total`` takes the gradient per channel."""
    outer, count, _ = x.shape
    for c in range(count):
        total[c] = 0.0
    for i in range(outer):
        for c in range(count):
            total[c] += backward(x[i, c], dy[i, c], inverse[c], low, high, half, up, dx[i, c])
