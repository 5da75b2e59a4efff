"""What keeps esp-ppq's own functions quick under pytest."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from esp_ppq.core import defs


@pytest.fixture(scope="module", autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """esp-ppq collects garbage in many of its functions, and would look through all of pytest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defs, "gc", SimpleNamespace(collect=lambda: 0))
        yield
