"""PP-OCR's classifier of a text line's direction, by rapidocr-onnxruntime: upright, or upside down.

The lines are drawn by code, so that the label is known: random words in a font that Pillow brings,
in random sizes, colours and noise, half of them upside down.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from benchmarks.zoo.contracts.sources import (
    batches,
    config,
    graph_outputs,
    package_file,
    with_shapes,
)

HEIGHT, WIDTH, BATCH, SCORED = 48, 192, 16, 400
MODEL = with_shapes(
    package_file("rapidocr_onnxruntime", "models", "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "ppocr_direction",
    {"x": [1, 3, HEIGHT, WIDTH]},
)
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

QUANT_CONFIG = config(
    "ppocr_direction",
    "top1",
    shape=[3, HEIGHT, WIDTH],
    batch=BATCH,
    steps=8,
    model=MODEL,
    metric_unit="percent",
)


def create_calib_dataloader() -> list[Any]:
    """Return 128 lines that are not scored."""
    return batches(_lines(1, 128)[0], BATCH)


def evaluate(quant_graph: Any) -> dict[str, Any]:
    """Return the percentage of 400 lines whose direction is found."""
    return _score(quant_graph, *_lines(2, SCORED))


def evaluate_final(quant_graph: Any) -> dict[str, Any]:
    """Return the same of 400 other lines."""
    return _score(quant_graph, *_lines(3, SCORED))


@cache
def _lines(seed: int, count: int) -> tuple[Any, Any]:
    """Return lines [count, 3, 48, 192], and 1 for those that are upside down."""
    random = np.random.RandomState(seed)
    lines, labels = [], random.randint(0, 2, count)
    for label in labels:
        pixels = _line(random)
        if label:
            pixels = pixels[::-1, ::-1]
        lines.append((pixels / 255.0 - 0.5) / 0.5)
    return np.stack(lines).transpose(0, 3, 1, 2).astype(np.float32), labels


def _line(random: Any) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    words = ["".join(random.choice(list(_LETTERS), random.randint(2, 9))) for _ in range(4)]
    paper = random.randint(150, 256, 3)
    ink = random.randint(0, 110, 3)
    if random.rand() < 0.4:
        paper, ink = ink, paper
    image = Image.new("RGB", (WIDTH, HEIGHT), tuple(int(value) for value in paper))
    font = ImageFont.load_default(size=int(random.randint(16, 40)))
    place = (int(random.randint(-20, 12)), int(random.randint(-4, 10)))
    colour = tuple(int(value) for value in ink)
    ImageDraw.Draw(image).text(place, " ".join(words), fill=colour, font=font)
    noise = random.randn(HEIGHT, WIDTH, 3) * random.uniform(0, 25)
    return (np.asarray(image, np.float64) + noise).clip(0, 255)


def _score(graph: Any, lines: Any, labels: Any) -> dict[str, Any]:
    right = graph_outputs(graph, lines, 50)[0].reshape(len(labels), -1).argmax(1) == labels
    return {"top1": 100.0 * float(right.mean()), "per_sample": right.tolist()}
