"""Convolutions and their gradients by the quickest way that torch or a kernel here has on a CPU."""

# Compiled code is seen by neither a coverage tool nor a type checker.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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


_FEW = 1 << 18
"""Elements of an output below which a pointwise convolution is a plain product of matrices."""

_WIDE = 5
"""Size of a kernel from which on torch's gradient of depthwise weights is slow on a CPU."""


@dataclass(frozen=True)
class Geometry:
    """How a 2-d convolution moves over its input.

    Attributes:
        stride, padding, dilation: by dimension, as in torch.
        groups: of channels.
        margin: left, right, top and bottom, to be added before; None where padding says it all.
    """

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    margin: tuple[int, int, int, int] | None = None

    @classmethod
    def of(cls, op: Any) -> Geometry | None:
        """Read an esp-ppq Conv; None where its attributes say something else."""
        given = op.attributes
        if given.get("auto_pad", "NOTSET") != "NOTSET":
            return None
        top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
        even = (top, left) == (bottom, right)
        return cls(
            _pair(given.get("strides", 1)),
            (top, left) if even else (0, 0),
            _pair(given.get("dilations", 1)),
            given.get("group", 1),
            None if even else (left, right, top, bottom),
        )

    def is_pointwise(self, weight: Tensor) -> bool:
        """Tell whether every output depends on the channels of one place alone."""
        plain = Geometry((1, 1), (0, 0), (1, 1), 1)
        return self == plain and weight.shape[2:] == (1, 1)

    def dilation_of(self, weight: Tensor) -> tuple[int, int]:
        """Return the dilation, 1 along an axis on which the kernel has a single element.

        It says nothing there, and torch 2.13 crashes with images of one column and their channels
        last, where it stands beside a stride and a padding.
        """
        down, right = self.dilation
        height, width = weight.shape[2:]
        return down if height > 1 else 1, right if width > 1 else 1

    def is_depthwise(self, weight: Tensor) -> bool:
        """Tell whether every channel is convolved for itself, without gaps."""
        alone = self.groups == len(weight) and weight.shape[1] == 1
        return alone and self.dilation == (1, 1)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return the convolution of images [batch, channels, height, width] with their margin."""
    if geometry.is_pointwise(weight) and x.numel() // weight.shape[1] * len(weight) < _FEW:
        rows, matrix = _rows(x), weight.flatten(1).t()
        product = rows @ matrix if bias is None else torch.addmm(bias, rows, matrix)
        return _image(product, x)
    return functional.conv2d(
        x,
        weight,
        bias,
        geometry.stride,
        geometry.padding,
        geometry.dilation_of(weight),
        geometry.groups,
    )


def convolution_gradients(
    dz: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, *, need_dx: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of a convolution's input, where it is needed, and of its weights."""
    if geometry.is_pointwise(weight) and dz.numel() < _FEW:
        rows, matrix = _rows(dz), weight.flatten(1)
        dx = _image(rows @ matrix, dz) if need_dx else None
        return dx, (rows.t() @ _rows(x)).view_as(weight)
    own = geometry.is_depthwise(weight) and min(weight.shape[2:]) >= _WIDE
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        dz,
        x,
        weight,
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation_of(weight),
        False,
        (0, 0),
        geometry.groups,
        (need_dx, not own, False),
    )
    if own:
        dweight = depthwise_gradient(dz, x, weight, geometry.stride, geometry.padding)
    return dx, dweight


def _rows(image: Tensor) -> Tensor:
    """Return [batch, channels, height, width] as [batch * height * width, channels]."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`_rows`; batch, height and width are those of ``like``."""
    batch, _, height, width = like.shape
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)
