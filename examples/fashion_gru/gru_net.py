"""A GRU that reads a 28x28 grey image row by row: one call per row, its state in and out.

Shapes for one image, with the defaults:

========================  ==========  =====================================
part                      output      layers
========================  ==========  =====================================
row                       28          input: one row, from top to bottom
state                     1x64        input: zeros at the first row
cells                     64          GRU of one layer, one step
new state                 1x64        output: the next row's state
classifier                10          linear; the last row's is the answer
========================  ==========  =====================================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Mean and standard deviation of all pixels of the training split, as fractions of 255.
PIXEL_MEAN = 0.2860
PIXEL_STD = 0.3530

ROWS = 28
COLUMNS = 28
HIDDEN = 64


def rows_of(images: Tensor) -> tuple[Tensor, ...]:
    """Return the 28 rows of uint8 images ``[N, 28, 28]``, each a float ``[N, 28]``.

    The value is ``(pixel / 255 - PIXEL_MEAN) / PIXEL_STD``.
    """
    return ((images.to(torch.float32) / 255.0 - PIXEL_MEAN) / PIXEL_STD).unbind(1)


def first_state(images: int) -> Tensor:
    """Return the state before the first row: zeros ``[1, images, 64]``."""
    return torch.zeros(1, images, HIDDEN)


class FashionGru(nn.Module):
    """One step: from a row ``[N, 28]`` and a state ``[1, N, 64]`` to scores and the next state."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.cells = nn.GRU(COLUMNS, HIDDEN)
        self.classifier = nn.Linear(HIDDEN, classes)

    def forward(self, row: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class scores ``[N, 10]`` after this row, and the state for the next one."""
        read, new_state = self.cells(row.unsqueeze(0), state)
        return self.classifier(read.squeeze(0)), new_state
