"""A small MobileNetV2-style classifier for 28x28 grey images, and its input scaling.

Shapes for one image (channels x height x width), with the defaults:

========================  ==========  =====================================
part                      output      layers
========================  ==========  =====================================
input                     1x28x28
stem                      16x14x14    3x3 conv, stride 2
bottleneck 1              24x7x7      no expansion, depthwise stride 2
bottleneck 2              24x7x7      expands to 96, residual Add
bottleneck 3              40x4x4      expands to 96, depthwise stride 2
bottleneck 4              40x4x4      expands to 96, residual Add
head                      96x4x4      1x1 conv
pool                      96          global average
classifier                10          linear
========================  ==========  =====================================

That is 13 convolutions and one linear layer. Every convolution is followed by batch
normalisation, and all but the last one of each bottleneck by a ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Mean and standard deviation of all pixels of the training split, as fractions of 255.
PIXEL_MEAN = 0.2860
PIXEL_STD = 0.3530

#: Class names, in label order.
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 images ``[N, 28, 28]`` into the float input ``[N, 1, 28, 28]``.

    The value is ``(pixel / 255 - PIXEL_MEAN) / PIXEL_STD``.
    """
    return (images.unsqueeze(1).to(torch.float32) / 255.0 - PIXEL_MEAN) / PIXEL_STD


def conv_bn(
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """Return convolution, batch normalisation and, if asked for, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    if activation:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """Inverted residual: expand (1x1), depthwise (3x3), project (1x1, no activation).

    ``[N, c_in, H, W]`` becomes ``[N, c_out, H / stride, W / stride]`` (rounded up). The input
    is added to the output where both have the same shape. The expansion is left out where
    ``c_mid == c_in``.
    """

    def __init__(self, c_in: int, c_mid: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and c_in == c_out
        layers: list[nn.Module] = []
        if c_mid != c_in:
            layers.append(conv_bn(c_in, c_mid, 1))
        layers.append(conv_bn(c_mid, c_mid, 3, stride, groups=c_mid))
        layers.append(conv_bn(c_mid, c_out, 1, activation=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to ``[N, c_in, H, W]``."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class FashionNet(nn.Module):
    """The whole network: ``[N, 1, 28, 28]`` in, class scores ``[N, classes]`` out."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.stem = conv_bn(1, 16, 3, stride=2)
        self.blocks = nn.Sequential(
            Bottleneck(16, 16, 24, stride=2),
            Bottleneck(24, 96, 24, stride=1),
            Bottleneck(24, 96, 40, stride=2),
            Bottleneck(40, 96, 40, stride=1),
        )
        self.head = conv_bn(40, 96, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return unnormalised class scores for a batch of images."""
        y: Tensor = self.pool(self.head(self.blocks(self.stem(x))))
        scores: Tensor = self.classifier(torch.flatten(y, 1))
        return scores
