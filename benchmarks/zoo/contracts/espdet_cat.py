"""ESPDet-Pico for cats at 224 x 224, from a folder of yours.

ESPDL_ESPDET names a folder with ``model.onnx``, ``images/*.jpg`` and ``labels/*.txt`` in YOLO's
form. In the order of their names, the first 32 images calibrate, the next 100 are scored by the
search, and the rest are for the final score. The score is COCO's mAP, in percent.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.contracts.sources import batches, config, graph_outputs
from espdl_quantize.metrics import AveragePrecision, coco_records

FOLDER = "ESPDL_ESPDET"
SIZE, CALIBRATION, SEARCH = 224, 32, 100
LEAST, OVERLAP, MOST = 0.001, 0.7, 100
"""Scores that count, the overlap that suppresses, and boxes of an image: Ultralytics' own."""

if not (Path(os.environ.get(FOLDER, "")) / "model.onnx").is_file():
    raise FileNotFoundError(f"set {FOLDER} to a folder with model.onnx, images/ and labels/")
HOME = Path(os.environ[FOLDER]).resolve()

QUANT_CONFIG = config(
    "espdet_cat",
    "map",
    shape=[3, SIZE, SIZE],
    batch=1,
    steps=CALIBRATION,
    model=HOME / "model.onnx",
)

aggregate = AveragePrecision(scale=100.0)
"""Makes the metric of one record per image."""


def create_calib_dataloader() -> list[Any]:
    """Return 32 images that are not scored, one by one."""
    return batches(_load(slice(0, CALIBRATION))[0], 1)


def evaluate(quant_graph: Any) -> dict[str, Any]:
    """Return the mAP on 100 images."""
    return _score(quant_graph, *_load(slice(CALIBRATION, CALIBRATION + SEARCH)))


def evaluate_final(quant_graph: Any) -> dict[str, Any]:
    """Return the same on the images that are left."""
    return _score(quant_graph, *_load(slice(CALIBRATION + SEARCH, None)))


def _load(part: slice) -> tuple[Any, list[Any]]:
    """Return images [n, 3, 224, 224], and of each the boxes of its cats in their pixels."""
    return _read(part.start, part.stop)


@cache
def _read(start: int, stop: int | None) -> tuple[Any, list[Any]]:
    from PIL import Image

    images, boxes = [], []
    for file in sorted((HOME / "images").glob("*.jpg"))[start:stop]:
        image = Image.open(file).convert("RGB")
        scale = SIZE / max(image.size)
        width, height = (round(side * scale) for side in image.size)
        left, top = (SIZE - width) // 2, (SIZE - height) // 2
        sheet = Image.new("RGB", (SIZE, SIZE), (114, 114, 114))
        sheet.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
        images.append(np.asarray(sheet, np.float32).transpose(2, 0, 1) / 255.0)
        text = (HOME / "labels" / f"{file.stem}.txt").read_text(encoding="utf-8")
        rows = [[float(part) for part in line.split()[1:5]] for line in text.splitlines()]
        sides = np.array(rows, np.float64).reshape(-1, 4) * np.array([width, height] * 2)
        corner = sides[:, :2] - sides[:, 2:] / 2 + np.array([left, top])
        boxes.append(np.concatenate([corner, sides[:, 2:]], 1))
    return np.stack(images), boxes


def _score(graph: Any, images: Any, truths: list[Any]) -> dict[str, Any]:
    outputs = graph_outputs(graph, images, 1)
    found = []
    for image in range(len(images)):
        boxes, scores = _boxes([output[image] for output in outputs])
        for box, score in zip(boxes.tolist(), scores.tolist(), strict=True):
            # From corners to corner and sides.
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            found.append({"image_id": image, "category_id": 0, "bbox": bbox, "score": score})
    truth = {
        "images": [{"id": image, "width": SIZE, "height": SIZE} for image in range(len(images))],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [
            {"image_id": image, "category_id": 0, "bbox": box}
            for image, rows in enumerate(truths)
            for box in rows.tolist()
        ],
    }
    records = coco_records(truth, found)
    return {"map": aggregate(records), "per_sample": records}


def _boxes(outputs: list[Any]) -> tuple[Any, Any]:
    """Return the boxes [n, 4], as corners in pixels, and scores [n] of one image, best first."""
    boxes, scores = [], []
    for sides, logits in zip(outputs[::2], outputs[1::2], strict=True):
        rows, columns = logits.shape[-2:]
        stride = SIZE / rows
        y, x = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
        left, top, right, bottom = sides
        corners = np.stack([x - left, y - top, x + right, y + bottom], -1)
        boxes.append(corners.reshape(-1, 4) * stride)
        scores.append(1 / (1 + np.exp(-logits.astype(np.float64).ravel())))
    box, score = np.concatenate(boxes), np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > LEAST]
    box, score = box[order], score[order]
    low = np.maximum(box[:, None, :2], box[None, :, :2])
    high = np.minimum(box[:, None, 2:], box[None, :, 2:])
    common = (high - low).clip(min=0).prod(-1)
    area = (box[:, 2:] - box[:, :2]).clip(min=0).prod(-1)
    clash = common > OVERLAP * (area[:, None] + area[None] - common)
    left_over, keep = np.ones(len(box), bool), []
    for index in range(len(box)):
        if left_over[index]:
            keep.append(index)
            left_over &= ~clash[index]
            if len(keep) == MOST:
                break
    return box[keep], score[keep]
