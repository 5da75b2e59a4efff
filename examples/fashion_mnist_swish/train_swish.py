"""Train the network from scratch and write its weights; ``../fashion_mnist`` has the training.

All 60,000 training images are used but the last 512, which are kept for calibration.
"""

from __future__ import annotations

import sys
from pathlib import Path

from swish_net import SwishNet

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fashion_mnist"))

import train  # noqa: E402

if __name__ == "__main__":
    train.main(SwishNet, HERE / "weights.pt", __doc__ or "")
