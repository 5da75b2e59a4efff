"""What keeps esp-ppq's own functions quick under pytest."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """esp-ppq collects garbage all the time; let it not look through what pytest has loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
