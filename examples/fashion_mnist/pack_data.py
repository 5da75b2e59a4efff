"""Write the small data file that ships with this example.

It holds the last 512 images of the training split (calibration; train.py leaves them out)
and the first 2,000 images of the test split (scoring), as unsigned bytes, with labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from fashion_idx import CALIB_IMAGES, TEST_IMAGES, read_split

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Read the original files and write the packed ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the idx .gz files")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "fashion_mnist_subset.npz")
    args = parser.parse_args()

    train_images, train_labels = read_split(args.data, "train")
    test_images, test_labels = read_split(args.data, "t10k")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        args.out,
        calib_images=train_images[-CALIB_IMAGES:],
        calib_labels=train_labels[-CALIB_IMAGES:],
        test_images=test_images[:TEST_IMAGES],
        test_labels=test_labels[:TEST_IMAGES],
    )
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
