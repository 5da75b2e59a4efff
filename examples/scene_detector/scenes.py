"""Scenes to detect things in: Fashion-MNIST items, scaled and scattered over a dark 64x64 image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SIZE = 64
CLASSES = 10
ITEMS = (1, 3)
ITEM_SIZE = (18, 34)
DATA = Path(__file__).resolve().parent.parent / "fashion_mnist/data/fashion_mnist_subset.npz"

_VISIBLE = 0.15
"""Grey value, of 0 to 1, from which a pixel counts as part of an item."""


@dataclass(frozen=True)
class Scene:
    """One image and what is in it.

    Attributes:
        image: float ``[1, 64, 64]``, 0 to 1.
        boxes: float ``[items, 4]``: left, top, right, bottom in pixels.
        labels: long ``[items]``.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor


def load_items(split: str) -> tuple[Tensor, Tensor]:
    """Return the items of a split: float ``[N, 28, 28]`` of 0 to 1, and labels ``[N]``.

    "score" and "train" are the two halves of the packed test images; "calibration" is apart.
    """
    with np.load(DATA) as data:
        if split == "calibration":
            return torch.from_numpy(data["calib_images"]).float() / 255, torch.zeros(512).long()
        images, labels = data["test_images"], data["test_labels"]
    half = len(images) // 2
    part = slice(0, half) if split == "score" else slice(half, None)
    return torch.from_numpy(images[part]).float() / 255, torch.from_numpy(labels[part]).long()


def make_scenes(items: Tensor, labels: Tensor, count: int, seed: int) -> list[Scene]:
    """Return scenes that a seed decides; items do not overlap by more than a little."""
    draw = np.random.RandomState(seed)
    return [_scene(items, labels, draw) for _ in range(count)]


def _scene(items: Tensor, labels: Tensor, draw: np.random.RandomState) -> Scene:
    image = torch.from_numpy(draw.uniform(0, 0.08, (SIZE, SIZE)).astype(np.float32))
    boxes: list[list[int]] = []
    found: list[int] = []
    for _ in range(draw.randint(ITEMS[0], ITEMS[1] + 1)):
        index, size = draw.randint(len(items)), draw.randint(*ITEM_SIZE)
        item = interpolate(items[index][None, None], size=(size, size), mode="bilinear")[0, 0]
        if draw.rand() < 0.5:
            item = item.flip(1)
        item = item * float(draw.uniform(0.6, 1.0))
        left, top = draw.randint(0, SIZE - size + 1), draw.randint(0, SIZE - size + 1)
        rows, columns = torch.nonzero(item > _VISIBLE, as_tuple=True)
        if len(rows) < 9:
            continue
        box = [
            left + int(columns.min()),
            top + int(rows.min()),
            left + int(columns.max()) + 1,
            top + int(rows.max()) + 1,
        ]
        if any(_overlap(box, other) > 0.1 for other in boxes):
            continue
        patch = image[top : top + size, left : left + size]
        torch.maximum(patch, item, out=patch)
        boxes.append(box)
        found.append(int(labels[index]))
    return Scene(
        image[None], torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(found).long()
    )


def _overlap(one: list[int], other: list[int]) -> float:
    """Return the common area over the smaller of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return max(width, 0) * max(height, 0) / smaller
