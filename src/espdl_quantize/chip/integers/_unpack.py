"""Takes weights out of the order in which the exporter packs them for the chip's vector unit.

``ResetParamLayoutPattern.reset_conv_filter_layout`` of ``esp_ppq/parser/espdl/export_patterns.py``
packs ``align`` output channels side by side, [N / align, H, W, C, align], and appends what does not
fill a block: as [N, H, W, C], or for a grouped Conv as [C, H, W, N]. Chips without a vector unit
get [N, H, W, C], or [H, W, C, N]. The shape in the file is [H, W, C, N], or [H, W, N, C].
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from espdl_quantize.chip._model import Tensor as FileTensor
from espdl_quantize.ppq import has_vector_unit


def alignment(chip: str, width: str) -> int | None:
    """Return how many output channels lie side by side; None for a chip without a vector unit."""
    if not has_vector_unit(chip):
        return None
    return 16 if width == "S8" else 8


def unpack(weight: FileTensor, align: int | None, *, grouped: bool) -> Tensor:
    """Return the weights of a Conv or Gemm, int64 [N, C, H, W]; H is 1 where there is none."""
    shape = weight.shape or ()
    if len(shape) not in (3, 4):
        raise ValueError(f"a weight of {len(shape)} dimensions")
    height, width = (1, shape[0]) if len(shape) == 3 else (shape[0], shape[1])
    count, channels = (shape[-2], shape[-1]) if grouped else (shape[-1], shape[-2])
    numbers = torch.from_numpy(weight.data.astype(np.int64))
    return _unpacked(numbers, (count, channels, height, width), align, grouped=grouped)


def unpack_matrices(weight: FileTensor, align: int | None) -> Tensor:
    """Return the right-hand side of a MatMul, int64 [..., C, N], each matrix packed by itself."""
    shape = weight.shape or ()
    channels, count = shape[-2:]
    numbers = torch.from_numpy(weight.data.astype(np.int64)).reshape(-1, channels * count)
    matrices = [
        _unpacked(number, (count, channels, 1, 1), align, grouped=False)[:, :, 0, 0].T
        for number in numbers
    ]
    return torch.stack(matrices).reshape(shape)


def _unpacked(
    numbers: Tensor, shape: tuple[int, int, int, int], align: int | None, *, grouped: bool
) -> Tensor:
    count, channels, height, width = shape
    if align is None:
        if grouped:
            return numbers.reshape(height, width, channels, count).permute(3, 2, 0, 1)
        return numbers.reshape(count, height, width, channels).permute(0, 3, 1, 2)
    blocks = count // align
    full = blocks * align
    cut = full * channels * height * width
    packed = numbers[:cut].reshape(blocks, height, width, channels, align)
    parts = [packed.permute(0, 4, 3, 1, 2).reshape(full, channels, height, width)]
    rest = numbers[cut:]
    if grouped:
        parts.append(rest.reshape(channels, height, width, count - full).permute(3, 0, 1, 2))
    else:
        parts.append(rest.reshape(count - full, height, width, channels).permute(0, 3, 1, 2))
    return torch.cat(parts)
