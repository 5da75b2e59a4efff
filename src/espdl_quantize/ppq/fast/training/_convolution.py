"""Convolutions and their gradients by the quickest way that torch or a kernel here has on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from espdl_quantize.ppq.fast.training._depthwise import depthwise_gradient

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
        x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    )


def convolution_gradients(
    dz: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, need_dx: bool
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
        geometry.dilation,
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
