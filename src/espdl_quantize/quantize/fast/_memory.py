"""How the process handles memory and tiny numbers while an iteration runs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt(3)."""

_LARGEST_MMAP_THRESHOLD = 32 << 20
"""The most that glibc accepts on 64 bits: HEAP_MAX_SIZE / 2."""


def keep_freed_memory() -> bool:
    """Make the allocator keep what is freed, instead of giving it back to the system.

    By default every tensor beyond a few hundred kB is mapped and unmapped anew, and each page of it
    is faulted in: most of the time of a convolution on a small image is that.

    Returns:
        Whether the C library has the knobs; only glibc's has.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = {
        _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
        _TRIM_THRESHOLD: 1 << 30,
        _TOP_PAD: 16 << 20,
    }
    return all(mallopt(name, value) for name, value in options.items())


def flush_denormals() -> None:
    """Treat numbers below 1e-38 as zero: arithmetic on them is up to 100 times slower."""
    import torch

    torch.set_flush_denormal(True)


_SMALL = 1 << 20
"""Elements of a tensor below which a second thread costs more than it brings."""


@contextlib.contextmanager
def fitting_threads(elements: int) -> Iterator[None]:
    """Run on one thread within the block where the largest tensor is small.

    Starting and joining threads takes longer than their work then. It depends on the size alone,
    so that sums are always taken in the same order.
    """
    import torch

    before = torch.get_num_threads()
    if elements < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
