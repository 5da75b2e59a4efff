"""Trains the detector; the seed decides everything. Run it from anywhere: it writes weights.pt."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from detections import cell_centres, decode, detect, mean_average_precision
from scene_net import STRIDE, SceneNet
from scenes import CLASSES, SIZE, Scene, load_items, make_scenes
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

WEIGHTS = Path(__file__).resolve().parent / "weights.pt"
CELLS = SIZE // STRIDE
NEAR = 1.5 * STRIDE
"""A cell is trained to find an item whose centre is at most so many pixels away."""


def targets(scenes: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Return, by cell, class targets ``[N, cells, 10]``, boxes ``[N, cells, 4]`` and a mask."""
    centres = cell_centres(CELLS, CELLS)
    classes = torch.zeros(len(scenes), len(centres), CLASSES)
    boxes = torch.zeros(len(scenes), len(centres), 4)
    mask = torch.zeros(len(scenes), len(centres), dtype=torch.bool)
    for number, scene in enumerate(scenes):
        for box, label in zip(scene.boxes, scene.labels, strict=True):
            middle = (box[:2] + box[2:]) / 2
            near = (centres - middle).abs().max(dim=1).values < NEAR
            near &= (centres > box[:2]).all(dim=1) & (centres < box[2:]).all(dim=1)
            classes[number, near] = torch.eye(CLASSES)[label]
            boxes[number, near], mask[number, near] = box, True
    return classes, boxes, mask


def box_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return one minus the generalised intersection over union (Rezatofighi et al. 2019)."""
    common = torch.minimum(found[:, 2:], wanted[:, 2:]) - torch.maximum(found[:, :2], wanted[:, :2])
    hull = torch.maximum(found[:, 2:], wanted[:, 2:]) - torch.minimum(found[:, :2], wanted[:, :2])
    inside = common.clamp(min=0).prod(dim=1)
    areas = (found[:, 2:] - found[:, :2]).clamp(min=0).prod(dim=1)
    union = areas + (wanted[:, 2:] - wanted[:, :2]).prod(dim=1) - inside
    outer = hull.clamp(min=1e-3).prod(dim=1)
    return 1 - inside / union.clamp(min=1e-3) + (outer - union) / outer


def loss(logits: Tensor, distances: Tensor, scenes: list[Scene]) -> Tensor:
    """Return focal loss (Lin et al. 2017) of the classes plus the loss of the boxes, per item."""
    classes, boxes, mask = targets(scenes)
    scores = logits.flatten(2).transpose(1, 2)
    plain = binary_cross_entropy_with_logits(scores, classes, reduction="none")
    right = torch.where(classes > 0, scores.sigmoid(), 1 - scores.sigmoid())
    weight = torch.where(classes > 0, 0.25, 0.75) * (1 - right) ** 2
    count = mask.sum().clamp(min=1)
    return (weight * plain).sum() / count + box_loss(decode(distances)[mask], boxes[mask]).sum() / (
        count
    )


def main() -> None:
    """Train, report the score every 500 steps, and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = SceneNet().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, options.steps)
    items, held_out = load_items("train"), make_scenes(*load_items("score"), 500, seed=2)
    for step in range(1, options.steps + 1):
        scenes = make_scenes(*items, 32, seed=1000 + step)
        value = loss(*model(torch.stack([scene.image for scene in scenes])), scenes)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0 or step == options.steps:
            model.eval()
            with torch.no_grad():
                found = detect(*model(torch.stack([scene.image for scene in held_out])))
            score = mean_average_precision(found, held_out, 0.5)
            print(f"step {step}: loss {value.item():.3f}, map50 {score:.2f}", flush=True)
            model.train()
    torch.save(model.eval().state_dict(), WEIGHTS)


if __name__ == "__main__":
    main()
