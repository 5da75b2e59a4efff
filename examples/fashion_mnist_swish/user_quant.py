"""What espdl-quantize needs to know about this example: data, network and score."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from swish_net import SwishNet, normalise
from torch import Tensor, nn
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from esp_ppq.IR import BaseGraph

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "fashion_mnist" / "data" / "fashion_mnist_subset.npz"
WEIGHTS = HERE / "weights.pt"
BATCH = 32
SCORE_BATCH = 200
SEARCH_IMAGES = 1000

QUANT_CONFIG: dict[str, Any] = {
    "model_name": "fashion_mnist_swish",
    "model_type": "torch",
    "input_shape": [1, 28, 28],
    "batch_size": BATCH,
    "target": os.environ.get("ESPDL_TARGET", "esp32s3"),
    "num_of_bits": int(os.environ.get("ESPDL_BITS", "8")),
    "device": "cpu",
    "calib_steps": 8,
    "primary_metric": "top1",
    "metric_direction": "max",
    "metric_unit": "percent",
}


def _load(name: str) -> Tensor:
    with np.load(DATA) as data:
        return torch.from_numpy(data[name])


def create_calib_dataloader() -> DataLoader[Tensor]:
    """Return 512 images that were not trained on and are not scored, ``[32, 1, 28, 28]`` each."""
    images: Any = normalise(_load("calib_images"))
    return DataLoader(images, batch_size=BATCH, shuffle=False)


def get_torch_model() -> nn.Module:
    """Return the trained float network, ready for inference."""
    model = SwishNet()
    model.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    return model.eval()


def evaluate(quant_graph: BaseGraph) -> dict[str, Any]:
    """Return the top-1 accuracy, in percent, on the first 1,000 test images: the search's score."""
    return _score(quant_graph, slice(0, SEARCH_IMAGES))


def evaluate_final(quant_graph: BaseGraph) -> dict[str, Any]:
    """Return the same on the other 1,000 test images, which take no part in the search."""
    return _score(quant_graph, slice(SEARCH_IMAGES, None))


def _score(quant_graph: BaseGraph, part: slice) -> dict[str, Any]:
    from esp_ppq.executor import TorchExecutor

    images = normalise(_load("test_images")[part])
    labels = _load("test_labels")[part].long()
    executor = TorchExecutor(graph=quant_graph, device="cpu")
    right = []
    with torch.no_grad():
        for start in range(0, len(labels), SCORE_BATCH):
            scores = executor.forward(inputs=images[start : start + SCORE_BATCH])[0]
            right += (scores.argmax(1) == labels[start : start + SCORE_BATCH]).tolist()
    return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}
