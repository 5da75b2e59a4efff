"""A one-stage detector without anchors, small enough for a microcontroller.

==============  ============  ===========================================
part            output        layers
==============  ============  ===========================================
input           1x64x64
stem            16x32x32      3x3 conv, stride 2
fine            32x16x16      depthwise-separable, stride 2
coarse          64x8x8        depthwise-separable, stride 2, and one more
fuse            48x16x16      coarse upsampled, Concat with fine, 1x1 conv
neck            48x16x16      depthwise-separable
scores          10x16x16      1x1 conv: a logit per class and cell
boxes           4x16x16       1x1 conv: distances to the box's four sides
==============  ============  ===========================================

Decoding and suppression are not part of the graph: see ``detections.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 4
"""Pixels per cell of the output."""


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


def separable(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """Return a depthwise 3x3 and a pointwise convolution."""
    return nn.Sequential(conv(c_in, c_in, 3, stride, groups=c_in), conv(c_in, c_out, 1))


class SceneNet(nn.Module):
    """``[N, 1, 64, 64]`` in; logits ``[N, 10, 16, 16]`` and distances ``[N, 4, 16, 16]`` out."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv(1, 16, 3, stride=2)
        self.fine = separable(16, 32, stride=2)
        self.coarse = nn.Sequential(separable(32, 64, stride=2), separable(64, 64))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.fuse = conv(96, 48, 1)
        self.neck = separable(48, 48)
        self.scores = nn.Conv2d(48, classes, 1)
        self.boxes = nn.Conv2d(48, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits, and distances in cells from each cell's centre."""
        fine = self.fine(self.stem(x))
        joined = torch.cat([fine, self.up(self.coarse(fine))], dim=1)
        neck = self.neck(self.fuse(joined))
        return self.scores(neck), self.boxes(neck)
