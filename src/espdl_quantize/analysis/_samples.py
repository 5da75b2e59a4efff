"""The elements of tensors that esp-ppq's analyses look at: always the same ones."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_SEED = 10086
"""Of esp-ppq's recorders."""


@functools.cache
def _sequence(count: int) -> Tensor:
    """Return the random sequence behind ``esp_ppq.utils.fetch.generate_indexer``."""
    found, seed = [], _SEED
    for _ in range(count):
        found.append(seed)
        seed = (0x343FD * seed + 0x269EC3) % (2 << 31)
    return torch.tensor(found)


@functools.lru_cache(maxsize=1024)
def _indices(count: int, shape: torch.Size, is_last: bool, device: str) -> Tensor:
    """Return where the elements lie in the memory of a tensor of that shape.

    Args:
        count: of the elements.
        shape: without the batch, where each sample is looked at.
        is_last: the channels, third from the end, are stored last.
        device: of the result.
    """
    flat = _sequence(count) % shape.numel()
    if is_last:
        *_, channels, height, width = shape
        spatial = height * width
        sample_of, inside = flat // (channels * spatial), flat % (channels * spatial)
        channel, place = inside // spatial, inside % spatial
        flat = (sample_of * spatial + place) * channels + channel
    return flat.to(device)


def sample(tensor: Tensor, count: int) -> Tensor:
    """Do as ``tensor_random_fetch``: return ``[count]`` elements of a tensor."""
    stored, is_last = _as_stored(tensor)
    where = _indices(count, tensor.shape, is_last, str(tensor.device))
    return stored.flatten().index_select(0, where)


def sample_each(tensor: Tensor, count: int) -> Tensor:
    """Do as ``batch_random_fetch``: return ``[batch, count]``, the same elements of each sample."""
    stored, is_last = _as_stored(tensor)
    where = _indices(count, tensor.shape[1:], is_last, str(tensor.device))
    return stored.flatten(start_dim=1).index_select(-1, where)


def _as_stored(tensor: Tensor) -> tuple[Tensor, bool]:
    """Return the tensor with its dimensions in the order of its memory, so that no copy is made."""
    if tensor.is_contiguous() or tensor.dim() != 4:
        return tensor, False
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1), True
    return tensor, False
