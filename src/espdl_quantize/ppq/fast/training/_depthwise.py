"""The gradient of the weights of depthwise convolutions with wide kernels.

For these, the kernels that torch has for a CPU take about ten times as long as the convolution
itself. Here rows of channels are multiplied and added, in an order that does not depend on the
number of threads.
"""

# Compiled code is seen by neither a coverage tool nor a type checker.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from espdl_quantize.ppq.fast._kernels import compiled, in_parallel

_PARTS = 8
"""Parts of a batch that are summed each for itself, and by as many threads at most."""


def depthwise_gradient(
    dz: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the gradient of the weights.

    Args:
        dz: gradient of the output, [batch, channels, rows, columns].
        x: the input, [batch, channels, height, width].
        weight: [channels, 1, kernel height, kernel width].
        stride, padding: of the convolution, down and to the right.
    """
    channels, _, height, width = weight.shape
    parts = np.zeros((_PARTS, height, width, channels), np.float32)
    arrays = (one.permute(0, 2, 3, 1).contiguous().numpy() for one in (dz, x))
    _weight_gradient(*arrays, *stride, *padding, parts)
    summed = torch.from_numpy(parts.sum(0))
    return summed.permute(2, 0, 1).unsqueeze(1).contiguous()


@compiled
def _add(g, x, total):  # pragma: no cover
    for c in range(total.size):
        total[c] += g[c] * x[c]


@compiled
def _add_four(g, g1, g2, g3, x, x1, x2, x3, total):  # pragma: no cover
    for c in range(total.size):
        total[c] += (g[c] * x[c] + g1[c] * x1[c]) + (g2[c] * x2[c] + g3[c] * x3[c])


@in_parallel
def _weight_gradient(dz, x, down, right, top, left, parts):  # pragma: no cover
    """Sum up; images are [batch, rows, columns, channels]."""
    batch, height, width, _ = x.shape
    count, rows, columns, _ = parts.shape
    for part in numba.prange(count):
        for n in range(part, batch, count):
            for p in range(dz.shape[1]):
                for k in range(max(0, top - p * down), min(rows, height + top - p * down)):
                    gradient, image = dz[n, p], x[n, p * down + k - top]
                    for j in range(columns):
                        # Where the column of the input lies inside of it.
                        q = max(0, (left - j + right - 1) // right)
                        end = min(dz.shape[2], (width - 1 + left - j) // right + 1)
                        at, total = q * right + j - left, parts[part, k, j]
                        while end - q >= 4:
                            _add_four(
                                gradient[q],
                                gradient[q + 1],
                                gradient[q + 2],
                                gradient[q + 3],
                                image[at],
                                image[at + right],
                                image[at + 2 * right],
                                image[at + 3 * right],
                                total,
                            )
                            q += 4
                            at += 4 * right
                        while q < end:
                            _add(gradient[q], image[at], total)
                            q += 1
                            at += right
