"""The elements of tensors that esp-ppq's analyses look at: always the same ones."""

from __future__ import annotations

import functools
import math

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
def _indices(count: int, elements: int, device: str) -> Tensor:
    return (_sequence(count) % elements).to(device)


@functools.lru_cache(maxsize=1024)
def _places(count: int, shape: tuple[int, ...]) -> Tensor:
    """Return where the elements lie in an image [channels, height, width] with channels last, or
    in several of these."""
    channels, size = shape[-3], math.prod(shape[-2:])
    indices = _sequence(count) % math.prod(shape)
    image, rest = indices // (channels * size), indices % (channels * size)
    return (image * size + rest % size) * channels + rest // size


def _has_channels_last(tensor: Tensor) -> bool:
    if tensor.dim() != 4 or tensor.is_contiguous() or tensor.is_cuda:
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def sample(tensor: Tensor, count: int) -> Tensor:
    """Do as ``tensor_random_fetch``: return ``[count]`` elements of a tensor."""
    if _has_channels_last(tensor):
        flat = tensor.permute(0, 2, 3, 1).reshape(-1)
        return flat.index_select(0, _places(count, tuple(tensor.shape)))
    flat = tensor.flatten()
    return flat.index_select(0, _indices(count, flat.numel(), str(tensor.device)))


def sample_each(tensor: Tensor, count: int) -> Tensor:
    """Do as ``batch_random_fetch``: return ``[batch, count]``, the same elements of each sample."""
    if _has_channels_last(tensor):
        flat = tensor.permute(0, 2, 3, 1).flatten(start_dim=1)
        return flat.index_select(-1, _places(count, tuple(tensor.shape[1:])))
    flat = tensor.flatten(start_dim=1)
    return flat.index_select(-1, _indices(count, flat.shape[-1], str(tensor.device)))
