"""How the process handles memory and tiny numbers while an iteration runs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory() -> bool:
    """Make the allocator keep what is freed, instead of giving it back to the system.

    By default every tensor beyond a few hundred kB is mapped and unmapped anew, and each page of it
    is faulted in: most of the time of a convolution on a small image is that.

    Returns:
        Whether the C library has the knobs; only glibc's has.
    """
    mallopt = _of_the_c_library("mallopt")
    if mallopt is None:
        return False
    options = {
        _MMAP_MAX: 0,
        _TRIM_THRESHOLD: 1 << 30,
        _TOP_PAD: 1 << 20,
    }
    return all(mallopt(name, value) for name, value in options.items())


def give_back_freed_memory() -> None:
    """Give the pages that hold nothing back to the system: to be called between stages.

    What one stage leaves free is seldom of the sizes that the next one asks for.
    """
    trim = _of_the_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_the_c_library(name: str) -> Any:
    """Return a function of the C library; None where it has none of that name."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None


def flush_denormals() -> None:
    """Treat numbers below 1e-38 as zero: arithmetic on them is up to 100 times slower."""
    import torch

    torch.set_flush_denormal(True)


_LITTLE_WORK = 1 << 24
"""Multiplications below which a second thread costs more than it brings."""


@contextlib.contextmanager
def fitting_threads(multiplications: int) -> Iterator[None]:
    """Run on one thread within the block where there is little work to share.

    Starting and joining threads takes longer than their work then. It depends on the work alone, so
    that sums are always taken in the same order.
    """
    import torch

    before = torch.get_num_threads()
    set_threads(1 if multiplications < _LITTLE_WORK else before)
    try:
        yield
    finally:
        set_threads(before)


def set_threads(count: int) -> None:
    """Let torch and the compiled kernels use as many threads as given, or as there can be."""
    import numba
    import torch

    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    # Last: numba's first call starts a thread for each processor, and tells OpenMP so, which torch
    # would take for its own number.
    torch.set_num_threads(count)
