"""What espdl-quantize needs to know about this example: data, network and score."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gru_net import COLUMNS, HIDDEN, FashionGru, first_state, rows_of
from torch import Tensor, nn

if TYPE_CHECKING:
    from esp_ppq.IR import BaseGraph

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "fashion_mnist" / "data" / "fashion_mnist_subset.npz"
WEIGHTS = HERE / "weights.pt"
BATCH = 32
SCORE_BATCH = 250
CALIB_IMAGES = 64
SEARCH_IMAGES = 1000

QUANT_CONFIG: dict[str, Any] = {
    "model_name": "fashion_gru",
    "model_type": "torch",
    # The names of forward's parameters, each with the shape of one sample ...
    "input_shape": {"row": [COLUMNS], "state": [1, HIDDEN]},
    # ... which in a batch of states [layers, samples, hidden] lies along axis 1.
    "batch_axis": {"state": 1},
    "batch_size": BATCH,
    "target": os.environ.get("ESPDL_TARGET", "esp32s3"),
    "num_of_bits": 8,
    "device": "cpu",
    "calib_steps": 56,
    "primary_metric": "top1",
    "metric_direction": "max",
    "metric_unit": "percent",
}


def _load(name: str) -> Tensor:
    """Return one array of the packed data file as a tensor."""
    with np.load(DATA) as data:
        return torch.from_numpy(data[name])


def create_calib_dataloader() -> Iterator[dict[str, Tensor]]:
    """Yield rows ``[32, 28]`` with the states ``[1, 32, 64]`` that the float network has there.

    Zeros alone would give the state the exponent of zeros. 32 images give 28 batches, one for
    each row; the images were not trained on, and none of them is scored.
    """
    model = get_torch_model()
    for images in _load("calib_images")[:CALIB_IMAGES].split(BATCH):
        state = first_state(len(images))
        for row in rows_of(images):
            yield {"row": row, "state": state}
            with torch.no_grad():
                _, state = model(row, state)


def get_torch_model() -> nn.Module:
    """Return the trained float network, ready for inference."""
    model = FashionGru()
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

    executor = TorchExecutor(graph=quant_graph, device="cpu")
    right: list[bool] = []
    images, labels = _load("test_images")[part], _load("test_labels")[part].long()
    with torch.no_grad():
        for batch, wanted in zip(images.split(SCORE_BATCH), labels.split(SCORE_BATCH), strict=True):
            state = first_state(len(batch))
            for row in rows_of(batch):
                # The state goes back in as it came out, from the first row to the last.
                scores, state = executor.forward({"row": row, "state": state})
            right += (scores.argmax(1) == wanted).tolist()
    # One result per image: with it, every comparison of two settings knows its own noise.
    return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}
