"""Fake quantization of tensors on a GPU, compiled by Triton: one read and one write per element.

Triton comes with the CUDA builds of torch. ``up`` tells how halves are rounded: upwards where true,
else to even. Scales are powers of two, so that multiplying by the inverse is dividing.
"""

# Compiled code is seen by neither a coverage tool nor a type checker.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 1024
"""Elements per program."""


@triton.jit
def _rounded(value, UP: tl.constexpr):  # pragma: no cover # noqa: N803
    if UP:
        return tl.floor(value + 0.5)
    below = tl.floor(value)
    rest = value - below
    is_odd = below - 2 * tl.floor(below * 0.5) == 1
    return below + tl.where((rest > 0.5) | ((rest == 0.5) & is_odd), 1.0, 0.0)


@triton.jit
def _clipped(value, low, high):  # pragma: no cover
    # NaN is neither smaller nor larger, and goes through, as in torch.clamp.
    return tl.where(value < low, low, tl.where(value > high, high, value))


@triton.jit
def forward(  # pragma: no cover
    x,
    scale,
    inverse,
    out,
    size,
    inner,
    channels,
    low,
    high,
    UP: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Write clip(round(x / scale)) * scale into ``out``.

    Arrays are flat; a scale belongs to ``inner`` elements, and after ``channels`` of these the
    first one comes again.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    channel = (at // inner) % channels
    factor = tl.load(inverse + channel, mask=inside, other=1.0)
    value = _rounded(tl.load(x + at, mask=inside, other=0.0) * factor, UP)
    step = tl.load(scale + channel, mask=inside, other=1.0)
    tl.store(out + at, _clipped(value, low, high) * step, mask=inside)


@triton.jit
def backward(  # pragma: no cover
    x,
    dy,
    inverse,
    dx,
    slopes,
    size,
    inner,
    channels,
    low,
    high,
    UP: tl.constexpr,  # noqa: N803
    PER_CHANNEL: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Write the gradient of ``x``, and what makes up that of the scales.

    ``slopes`` takes a sum per program where there is one scale, else a number per element.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    channel = (at // inner) % channels
    factor = tl.load(inverse + channel, mask=inside, other=1.0)
    exact = tl.load(x + at, mask=inside, other=0.0) * factor
    value = _rounded(exact, UP)
    clipped = _clipped(value, low, high)
    gradient = tl.load(dy + at, mask=inside, other=0.0)
    kept = value == clipped
    tl.store(dx + at, tl.where(kept, gradient, 0.0), mask=inside)
    slope = gradient * tl.where(kept, clipped - exact, clipped)
    if PER_CHANNEL:
        tl.store(slopes + at, slope, mask=inside)
    else:
        tl.store(slopes + tl.program_id(0), tl.sum(slope, axis=0))
