"""Small networks of each kind that esp-ppq meets, on the images that the demo ships.

Their weights are drawn from a fixed seed: these tests ask whether a kind of graph goes through and
what its artifacts hold, not how accurate it is.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

IMAGES = Path(__file__).parent.parent / "examples/fashion_mnist/data/fashion_mnist_subset.npz"


@cache
def _images(key: str) -> Tensor:
    with np.load(IMAGES) as data:
        pixels = data[key].astype(np.float32)
    return torch.from_numpy((pixels - 128.0) / 128.0).unsqueeze(1)


def calibration_images(count: int) -> Tensor:
    """Return real images, float32 [count, 1, 28, 28]."""
    return _images("calib_images")[:count]


def held_out_images(count: int) -> Tensor:
    """Return other real images, float32 [count, 1, 28, 28]."""
    return _images("test_images")[:count]


def agreement(graph: Any, count: int) -> float:
    """Percent of images on which a graph decides as the float network does."""
    from esp_ppq.executor import TorchExecutor

    images = held_out_images(count)
    decided = TorchExecutor(graph=graph, device="cpu").forward(images)[0].argmax(dim=1)
    return 100.0 * float((decided == _decisions(count)).float().mean())


@cache
def _decisions(count: int) -> Tensor:
    with torch.no_grad():
        decided: Tensor = depthwise_cnn()(held_out_images(count)).argmax(dim=1)
    return decided


def _seeded(network: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return network().eval()


class _DepthwiseBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(torch.relu(self.depthwise(x)))
        return out


class _DepthwiseCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(_DepthwiseBlock(16), nn.ReLU6(), _DepthwiseBlock(16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(nn.functional.relu6(self.stem(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class _ResidualCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.first = nn.Conv2d(16, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(16 * 49, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        logits: Tensor = self.head(self.pool(x).flatten(1))
        return logits


class _Detector(nn.Module):
    """Two output scales, an upsampling path and a concatenation, as one-stage detectors have."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.high = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.fuse = nn.Conv2d(24, 16, 3, padding=1)
        self.boxes = nn.Conv2d(16, 4, 1)
        self.scores = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = nn.functional.silu(self.low(x))
        high = nn.functional.silu(self.high(low))
        fused = torch.relu(self.fuse(torch.cat([low, self.up(high)], dim=1)))
        return self.boxes(fused), torch.sigmoid(self.scores(high))


class _OneClass(nn.Module):
    """A detector of one class: the layer of its scores has one channel, and another reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.scores = nn.Conv2d(8, 1, 1)
        self.boxes = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.relu(self.scores(torch.relu(self.stem(x))))
        return self.boxes(scores), scores


class _Transformer(nn.Module):
    """One pre-norm encoder block over 7x7 patches, with its attention written out."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 4, stride=4)
        self.norm = nn.LayerNorm(32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.mix = nn.Linear(32, 32)
        self.norm2 = nn.LayerNorm(32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).reshape(-1, 32, 49).transpose(1, 2)
        y = self.norm(x)
        scores = self.query(y) @ self.key(y).transpose(1, 2) / 32**0.5
        x = x + self.mix(scores.softmax(dim=-1) @ self.value(y))
        x = x + self.down(nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh"))
        logits: Tensor = self.head(x.mean(dim=1))
        return logits


class _Recurrent(nn.Module):
    """Reads an image row by row, from a zero state of the batch size, as esp-ppq needs it."""

    cell: type[nn.LSTM] | type[nn.GRU] = nn.LSTM

    def __init__(self) -> None:
        super().__init__()
        self.cells = self.cell(28, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.squeeze(1)
        zeros = (rows[:, 0, :16] * 0).unsqueeze(0)
        states, _ = self.cells(rows, (zeros, zeros) if self.cell is nn.LSTM else zeros)
        logits: Tensor = self.head(states.mean(dim=1))
        return logits


class _Gru(_Recurrent):
    cell = nn.GRU


class StatelessLstm(nn.Module):
    """An LSTM as it is usually written, without an initial state."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(28, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.cells(x.squeeze(1))[0]
        return states.mean(dim=1)


class _SmallTanh(nn.Module):
    """A Sub of two Tanh so small that their 16-bit exponents, -18 and -17, are near 1e-5."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x) * 0.05)
        return x - torch.tanh(self.second(x))


class _AddsConstant(nn.Module):
    """An Add of an activation and a much smaller constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.constant = nn.Parameter(0.01 * torch.randn(1, 8, 28, 28))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(3 * self.conv(x)) + self.constant


class _Relu6Residual(nn.Module):
    """Residual blocks whose Add joins a large and a small branch, behind ReLU6 (a Clip)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem(x))
        for block in self.blocks:
            x = nn.functional.relu6(x + 0.05 * block(x))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class Streaming(nn.Module):
    """Reads one row of an image per call: a row, the state of its GRU, and a rate for all samples.

    The samples lie along the second axis of the state [layers, samples, hidden].
    """

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(28, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, row: Tensor, state: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        new, last = self.cells((row * rate).unsqueeze(0), state)
        logits: Tensor = self.head(new.squeeze(0))
        return logits, last


class _Swish(nn.Module):
    """Swish behind each Conv, a branch that ends in a Sigmoid, and a residual Add."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 16, 3, padding=1)
        self.factors = nn.Conv2d(16, 16, 1)
        self.project = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.stem(x))
        y = nn.functional.silu(self.body(x))
        y = y * torch.sigmoid(self.factors(nn.functional.adaptive_avg_pool2d(y, 1)))
        x = x + self.project(y)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class _Upsampled(nn.Module):
    """Convolutions on both sides of a Resize, which ESP-DL has for 8 bits alone."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.after = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.before(x))
        out: Tensor = self.after(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
        return out


class _Causal(nn.Module):
    """Two convolutions over time, padded on the side of the past, on rows as frames."""

    padding = (2, 0)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(28, 16, 3), nn.Conv1d(16, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(nn.functional.pad(x, self.padding)))
        out: Tensor = self.second(nn.functional.pad(x, self.padding))
        return out


class _NotCausal(_Causal):
    padding = (1, 1)


def depthwise_cnn() -> nn.Module:
    """Return a MobileNet-like network."""
    return _seeded(_DepthwiseCnn)


KINDS: dict[str, type[nn.Module]] = {
    "depthwise": _DepthwiseCnn,
    "residual": _ResidualCnn,
    "detector": _Detector,
    "one class": _OneClass,
    "transformer": _Transformer,
    "lstm": _Recurrent,
    "gru": _Gru,
}


SPECIAL: dict[str, type[nn.Module]] = {
    "small tanh": _SmallTanh,
    "adds constant": _AddsConstant,
    "relu6 residual": _Relu6Residual,
    "streaming": Streaming,
    "swish": _Swish,
    "upsampled": _Upsampled,
    "causal": _Causal,
    "not causal": _NotCausal,
}
"""Networks for one question each; what goes through every kind need not go through these."""


def network(kind: str) -> nn.Module:
    """Return a network of one kind, in eval mode."""
    return _seeded({**KINDS, **SPECIAL}[kind])


def export_network(kind: str, file: Path) -> None:
    """Write a network as ONNX."""
    torch.onnx.export(
        network(kind),
        (torch.zeros(1, 1, 28, 28),),
        str(file),
        input_names=["image"],
        dynamo=False,
    )


def output_error(kind: str, graph: Any, count: int) -> float:
    """Return the mean noise power over signal power of a graph's outputs, against the network."""
    from esp_ppq.executor import TorchExecutor

    executor, reference, ratios = TorchExecutor(graph=graph, device="cpu"), network(kind), []
    for image in torch.split(held_out_images(count), 1):
        outputs = executor.forward(image)
        with torch.no_grad():
            wanted = reference(image)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        ratios += [
            float(((a - b) ** 2).sum() / (b**2).sum()) for a, b in zip(outputs, wanted, strict=True)
        ]
    return sum(ratios) / len(ratios)
