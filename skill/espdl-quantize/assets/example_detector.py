"""A detector's contract: two outputs, boxes decoded outside the graph, mean average precision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detections import detect, judge
from scene_net import SceneNet
from scenes import SIZE, load_items, make_scenes
from torch import Tensor, nn
from torch.utils.data import DataLoader

from espdl_quantize.metrics import AveragePrecision

if TYPE_CHECKING:
    from esp_ppq.IR import BaseGraph

WEIGHTS = Path(__file__).resolve().parent / "weights.pt"
BATCH = 32
CALIBRATION, SCORED = 256, 500

QUANT_CONFIG: dict[str, Any] = {
    "model_name": "scene_detector",
    "model_type": "torch",
    "input_shape": [1, SIZE, SIZE],
    "batch_size": BATCH,
    "target": os.environ.get("ESPDL_TARGET", "esp32s3"),
    "num_of_bits": 8,
    "device": "cpu",
    "calib_steps": CALIBRATION // BATCH,
    "primary_metric": "map50",
    "metric_direction": "max",
}


aggregate = AveragePrecision(scale=100.0, points="all")
"""Makes the metric of one record per scene, so that it has an interval."""


def create_calib_dataloader() -> DataLoader[Tensor]:
    """Return 256 scenes in batches ``[32, 1, 64, 64]``; none of their items is scored."""
    scenes = make_scenes(*load_items("calibration"), CALIBRATION, seed=1)
    images: Any = torch.stack([scene.image for scene in scenes])
    return DataLoader(images, batch_size=BATCH, shuffle=False)


def get_torch_model() -> nn.Module:
    """Return the trained float network, ready for inference."""
    model = SceneNet()
    model.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    return model.eval()


def evaluate(quant_graph: BaseGraph) -> dict[str, Any]:
    """Return the mean average precision at 0.5 and 0.75 overlap, in percent, on 500 scenes."""
    from esp_ppq.executor import TorchExecutor

    scenes = make_scenes(*load_items("score"), SCORED, seed=2)
    executor = TorchExecutor(graph=quant_graph, device="cpu")
    found = []
    with torch.no_grad():
        for start in range(0, SCORED, 100):
            images = torch.stack([scene.image for scene in scenes[start : start + 100]])
            found += detect(*executor.forward(inputs=images))
    records = judge(found, scenes, 0.5)
    return {
        "map50": aggregate(records),
        "map75": aggregate(judge(found, scenes, 0.75)),
        "per_sample": records,
    }
