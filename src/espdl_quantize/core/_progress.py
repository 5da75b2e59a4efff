"""What a long computation tells of itself while it runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Told of stages as they begin, go on and end."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Enter a stage; leaving the block ends it."""

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say how far the current stage is; ``total`` None means that nobody knows."""


class NoProgress:
    """Says nothing."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Do nothing."""
