"""Keeps large tensors on the disk while memory is short, with the same values and strides.

A tensor is written to a file, which is mapped and unlinked: the system reads its pages when they
are used and drops them when memory is needed elsewhere, and the file is gone with the tensor, also
where the process is killed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Batch

_SMALLEST = 1 << 20
"""Bytes below which a tensor stays in memory."""

_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextlib.contextmanager
def spilling_to(folder: Path | None) -> Iterator[None]:
    """Make :func:`spill` write into a folder within the block; None leaves it as it is."""
    if folder is None:
        yield
        return
    folder.mkdir(exist_ok=True)
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def is_spilling() -> bool:
    """Return whether memory is short."""
    return _FOLDER.get() is not None


def spill(tensor: Any) -> Any:
    """Return a tensor that is equal to the last bit and lies on the disk, if memory is short.

    It is on the CPU, and not to be written to. What is small, or has gaps in its storage, is only
    moved to the CPU.

    Raises:
        OSError: the disk is full.
    """
    import torch

    folder = _FOLDER.get()
    if folder is None or not isinstance(tensor, torch.Tensor):
        return tensor
    tensor = tensor.detach().cpu()
    count, size = tensor.numel(), tensor.element_size()
    if count * size < _SMALLEST or not torch.ops.aten.is_non_overlapping_and_dense(tensor):
        return tensor
    # In the order of the storage: how a tensor is laid out decides how sums are taken.
    flat = torch.as_strided(tensor, (count,), (1,), tensor.storage_offset())
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        try:
            flat.view(torch.uint8).numpy().tofile(file)
            file.flush()
            mapped = torch.from_file(file.name, shared=False, size=count, dtype=tensor.dtype)
        finally:
            with contextlib.suppress(OSError):
                Path(file.name).unlink()
    return torch.as_strided(mapped, tensor.size(), tensor.stride())


def spill_batch(batch: Batch) -> Batch:
    """Do :func:`spill` with each tensor of a calibration batch.

    What lies on a GPU stays there: esp-ppq expects it where it computes.
    """
    return batch.map(lambda tensor: tensor if tensor.is_cuda else spill(tensor))
