"""What one test leaves behind in the process is put back for the next."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def tiny_numbers() -> Iterator[None]:
    """Let numbers below 1e-38 count again: an iteration turns them to zero for the process."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_flush_denormal(False)
