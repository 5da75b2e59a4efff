"""Read the original Fashion-MNIST files, and say how this example splits them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

#: The last images of the training split: never trained on, used for calibration only.
CALIB_IMAGES = 512
#: The first images of the test split: used for scoring only.
TEST_IMAGES = 2000

_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049

Array = npt.NDArray[np.uint8]


def _read_idx(path: Path, magic: int, dims: int) -> Array:
    """Return the array in one gzipped idx file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    header = np.frombuffer(raw, dtype=">u4", count=1 + dims)
    if int(header[0]) != magic:
        raise ValueError(f"{path}: expected an idx file of type {magic}, found {int(header[0])}")
    shape = tuple(int(n) for n in header[1:])
    body = np.frombuffer(raw, dtype=np.uint8, offset=4 * (1 + dims))
    array: Array = body.reshape(shape).copy()
    return array


def read_split(folder: Path, split: str) -> tuple[Array, Array]:
    """Return images ``[N, 28, 28]`` and labels ``[N]`` of ``split``: "train" or "t10k"."""
    images = _read_idx(folder / f"{split}-images-idx3-ubyte.gz", _IMAGES_MAGIC, 3)
    labels = _read_idx(folder / f"{split}-labels-idx1-ubyte.gz", _LABELS_MAGIC, 1)
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {len(images)} {split} images but {len(labels)} labels")
    return images, labels
