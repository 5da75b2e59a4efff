"""The scene detector of examples/scene_detector, with a final score on 500 other scenes."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.zoo.contracts.sources import graph_outputs, lazily

sys.path.append(str(Path(__file__).resolve().parents[3] / "examples" / "scene_detector"))
_example, _scenes, _detections = map(lazily, ("user_quant", "scenes", "detections"))

QUANT_CONFIG: dict[str, Any] = _example.QUANT_CONFIG
aggregate = _example.aggregate
"""Makes the metric of one record per scene."""


def create_calib_dataloader() -> Any:
    """Return 256 scenes that are not scored."""
    return _example.create_calib_dataloader()


def get_torch_model() -> Any:
    """Return the trained float network."""
    return _example.get_torch_model()


def evaluate(quant_graph: Any) -> dict[str, Any]:
    """Return the mAP at 0.5 overlap, in percent, on the example's 500 scenes."""
    return _score(quant_graph, 2)


def evaluate_final(quant_graph: Any) -> dict[str, Any]:
    """Return the same on 500 other scenes, of the same items."""
    return _score(quant_graph, 3)


@cache
def _made(seed: int) -> tuple[list[Any], Any]:
    import numpy as np

    scenes = _scenes.make_scenes(*_scenes.load_items("score"), _example.SCORED, seed=seed)
    return scenes, np.stack([scene.image.numpy() for scene in scenes])


def _score(graph: Any, seed: int) -> dict[str, Any]:
    import torch

    scenes, images = _made(seed)
    outputs = [torch.from_numpy(output) for output in graph_outputs(graph, images, 100)]
    records = _detections.judge(_detections.detect(*outputs), scenes, 0.5)
    return {"map50": aggregate(records), "per_sample": records}
