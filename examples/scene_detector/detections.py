"""From the network's outputs to boxes, and from boxes to a mean average precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from scene_net import STRIDE
from scenes import Scene
from torch import Tensor

from espdl_quantize.metrics import AveragePrecision

_MOST = 50
"""Candidates of an image that suppression looks at."""


@dataclass(frozen=True)
class Detections:
    """What was found in one image: boxes ``[n, 4]`` in pixels, scores and labels ``[n]``."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def cell_centres(rows: int, columns: int) -> Tensor:
    """Return the centres of all cells, in pixels: ``[rows * columns, 2]``, x before y."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2).float() + 0.5) * STRIDE


def decode(distances: Tensor) -> Tensor:
    """Turn distances ``[N, 4, H, W]`` into boxes ``[N, H * W, 4]`` in pixels."""
    centres = cell_centres(*distances.shape[-2:])
    sides = distances.flatten(2).transpose(1, 2) * STRIDE
    return torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1)


def overlaps(ones: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of boxes ``[n, 4]`` with boxes ``[m, 4]``: ``[n, m]``."""
    low = torch.maximum(ones[:, None, :2], others[None, :, :2])
    high = torch.minimum(ones[:, None, 2:], others[None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=-1) for b in (ones, others)]
    return common / (areas[0][:, None] + areas[1][None] - common).clamp(min=1e-9)


def detect(logits: Tensor, distances: Tensor, least: float = 0.05) -> list[Detections]:
    """Return the boxes of each image after suppressing, class by class, those that overlap."""
    boxes, scores = decode(distances), logits.sigmoid().flatten(2).transpose(1, 2)
    return [_suppress(*image, least) for image in zip(boxes, scores, strict=True)]


def _suppress(boxes: Tensor, scores: Tensor, least: float) -> Detections:
    best, labels = scores.max(dim=1)
    order = best.argsort(descending=True, stable=True)[:_MOST]
    order = order[best[order] > least]
    boxes, best, labels = boxes[order], best[order], labels[order]
    clash = (overlaps(boxes, boxes) > 0.5) & (labels[:, None] == labels[None])
    keep: list[int] = []
    for index in range(len(boxes)):
        if not clash[index, keep].any():
            keep.append(index)
    return Detections(boxes[keep], best[keep], labels[keep])


def mean_average_precision(found: list[Detections], scenes: list[Scene], least: float) -> float:
    """Return the mean over classes of the area under precision over recall, in percent.

    The area is that of the precision made monotone, over all points (PASCAL VOC from 2010 on).
    """
    return AveragePrecision(scale=100.0, points="all")(judge(found, scenes, least))


def judge(found: list[Detections], scenes: list[Scene], least: float) -> list[dict[str, Any]]:
    """Return what became of each scene's detections, as records for AveragePrecision.

    A detection is right where its class fits and its box overlaps one that no better detection took
    by at least ``least`` (intersection over union).
    """
    records = []
    for detections, scene in zip(found, scenes, strict=True):
        taken = torch.zeros(len(scene.boxes), dtype=torch.bool)
        hits = []
        for box, label in zip(detections.boxes, detections.labels, strict=True):
            free = ~taken & (scene.labels == label)
            common = overlaps(box[None], scene.boxes)[0].where(free, torch.tensor(-1.0))
            hit = int(common.argmax()) if len(common) else -1
            right = hit >= 0 and float(common[hit]) >= least
            hits.append(int(right))
            if right:
                taken[hit] = True
        labels = scene.labels.tolist()
        records.append(
            {
                "scores": detections.scores.tolist(),
                "labels": detections.labels.tolist(),
                "hits": hits,
                "truths": {label: labels.count(label) for label in labels},
            }
        )
    return records
