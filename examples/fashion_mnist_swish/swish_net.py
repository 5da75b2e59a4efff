"""A small EfficientNet-style classifier for 28x28 grey images: Swish after every convolution.

Shapes for one image (channels x height x width), with the defaults:

====================  =========  ================================================
part                  output     layers
====================  =========  ================================================
input                 1x28x28
stem                  16x14x14   3x3 conv, stride 2
block 1               24x7x7     expands to 48, depthwise stride 2, squeeze-excite
block 2               24x7x7     expands to 72, squeeze-excite, residual Add
block 3               40x4x4     expands to 72, depthwise stride 2, squeeze-excite
head                  96x4x4     1x1 conv
pool, classifier      10         global average, linear
====================  =========  ================================================

Every convolution is followed by batch normalisation, and all but the last one of each block by a
Swish (``x * sigmoid(x)``, SiLU in torch); each block scales its channels by a small network that
ends in a Sigmoid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Mean and standard deviation of all pixels of the training split, as fractions of 255.
PIXEL_MEAN = 0.2860
PIXEL_STD = 0.3530


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 images ``[N, 28, 28]`` into the float input ``[N, 1, 28, 28]``."""
    return (images.unsqueeze(1).to(torch.float32) / 255.0 - PIXEL_MEAN) / PIXEL_STD


def conv_bn(
    c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, swish: bool = True
) -> nn.Sequential:
    """Return convolution, batch normalisation and, if asked for, Swish."""
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    if swish:
        layers.append(nn.SiLU())
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Scales each channel by a factor between 0 and 1 that depends on all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``[N, C, H, W]``."""
        means = nn.functional.adaptive_avg_pool2d(x, 1)
        factors = torch.sigmoid(self.excite(nn.functional.silu(self.squeeze(means))))
        return x * factors


class Block(nn.Module):
    """Inverted residual: expand, depthwise, squeeze-excite, project.

    ``[N, c_in, H, W]`` becomes ``[N, c_out, H / stride, W / stride]`` (rounded up); the input is
    added where both have the same shape.
    """

    def __init__(self, c_in: int, c_mid: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and c_in == c_out
        self.layers = nn.Sequential(
            conv_bn(c_in, c_mid, 1),
            conv_bn(c_mid, c_mid, 3, stride, groups=c_mid),
            SqueezeExcite(c_mid, 8),
            conv_bn(c_mid, c_out, 1, swish=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class SwishNet(nn.Module):
    """The whole network: ``[N, 1, 28, 28]`` in, class scores ``[N, classes]`` out."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_bn(1, 16, 3, stride=2)
        self.blocks = nn.Sequential(
            Block(16, 48, 24, stride=2), Block(24, 72, 24, stride=1), Block(24, 72, 40, stride=2)
        )
        self.head = conv_bn(40, 96, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return unnormalised class scores for a batch of images."""
        y: Tensor = self.pool(self.head(self.blocks(self.stem(x))))
        scores: Tensor = self.classifier(torch.flatten(y, 1))
        return scores
