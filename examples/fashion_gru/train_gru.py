"""Train the network from scratch and write its weights; ``../fashion_mnist`` has the training.

All 60,000 training images are used but the last 512, which are kept for calibration.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gru_net import FashionGru
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fashion_mnist"))

import train  # noqa: E402


class ImageReader(nn.Module):
    """All steps at once, for training: images ``[N, 1, 28, 28]`` in, class scores out.

    Its weights go by the names of ``FashionGru``'s.
    """

    def __init__(self) -> None:
        super().__init__()
        step = FashionGru()
        self.cells, self.classifier = step.cells, step.classifier

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores after the last row."""
        read, _ = self.cells(images.squeeze(1).transpose(0, 1))
        scores: Tensor = self.classifier(read[-1])
        return scores


if __name__ == "__main__":
    train.main(ImageReader, HERE / "weights.pt", __doc__ or "")
