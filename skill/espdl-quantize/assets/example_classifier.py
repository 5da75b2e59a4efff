"""What espdl-quantize needs to know about this example: data, network and score."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fashion_net import FashionNet, normalise
from torch import Tensor, nn
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from esp_ppq.IR import BaseGraph

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "fashion_mnist_subset.npz"
WEIGHTS = HERE / "weights.pt"
BATCH = 32
SCORE_BATCH = 200
SEARCH_IMAGES = 1000

QUANT_CONFIG: dict[str, Any] = {
    "model_name": "fashion_mnist",
    "model_type": "torch",
    "input_shape": [1, 28, 28],
    "batch_size": BATCH,
    "target": os.environ.get("ESPDL_TARGET", "esp32s3"),
    "num_of_bits": 8,
    "device": os.environ.get("ESPDL_DEVICE", "cpu"),
    "calib_steps": 8,
    "primary_metric": "top1",
    "metric_direction": "max",
    "metric_unit": "percent",
}


def _load(name: str) -> Tensor:
    """Return one array of the packed data file as a tensor."""
    with np.load(DATA) as data:
        return torch.from_numpy(data[name])


def create_calib_dataloader() -> DataLoader[Tensor]:
    """Return the calibration images in batches ``[32, 1, 28, 28]``, in fixed order.

    These are 512 images of the training split that were not trained on; ``calib_steps``
    says how many of the 16 batches are used. None of them is scored.
    """
    images: Any = normalise(_load("calib_images"))
    return DataLoader(images, batch_size=BATCH, shuffle=False)


def get_torch_model() -> nn.Module:
    """Return the trained float network, ready for inference."""
    model = FashionNet()
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

    device = QUANT_CONFIG["device"]
    images = normalise(_load("test_images")[part]).to(device)
    labels = _load("test_labels")[part].long().to(device)
    executor = TorchExecutor(graph=quant_graph, device=device)
    right = []
    with torch.no_grad():
        for start in range(0, len(labels), SCORE_BATCH):
            scores = executor.forward(inputs=images[start : start + SCORE_BATCH])[0]
            right += (scores.argmax(1) == labels[start : start + SCORE_BATCH]).tolist()
    # One result per image: with it, every comparison of two settings knows its own noise.
    return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}
