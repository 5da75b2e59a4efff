"""The iterations that were begun, and on which worker they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json, describe_seconds
from espdl_quantize.setting import Setting
from espdl_quantize.tuning.ray.cluster import Share

_SLOW = 2.0
"""How many times its estimate an iteration takes before somebody is told."""

_SLOW_AT_LEAST = 60.0
"""Seconds before it is."""

WAITS = "waits for its place"
"""Where an iteration is whose worker has not said anything."""

STARTS = "starts"
"""Where it is when its worker is there, and no stage has begun."""


@dataclass
class Task:
    """An iteration that was begun.

    Attributes:
        setting: under the number of ``folder``.
        folder: where it will be.
        changed: options that are other than those of every iteration.
        estimate: seconds that it is expected to take; None where nothing was measured.
        is_auxiliary: whether it is no step of the search.
        attempts: how often it was begun.
        worker: that runs it.
        answer: Ray's reference to what it comes to.
        asked: Ray's reference to where it is, while that is asked.
        place: where it was last.
        fraction: how much of that is done; None where nobody knows.
        since: when it was begun last.
        was_slow: somebody was told that it takes long.
    """

    setting: Setting
    folder: Path
    changed: Json
    estimate: float | None
    is_auxiliary: bool = False
    attempts: int = 0
    worker: Worker | None = None
    answer: Any = None
    asked: Any = None
    place: str = WAITS
    fraction: float | None = None
    since: float = 0.0
    was_slow: bool = False

    @property
    def number(self) -> int:
        """Return the number of the iteration."""
        return self.setting.iteration_id

    def waits_at(self, since: float) -> bool:
        """Tell whether it was begun before a time, and its worker has not said anything yet."""
        return self.place == WAITS and self.since < since

    def is_slow(self, now: float) -> str | None:
        """Say, once, that it takes far longer than expected."""
        if self.estimate is None or self.was_slow:
            return None
        taken = now - self.since
        if taken <= max(_SLOW * self.estimate, _SLOW_AT_LEAST):
            return None
        self.was_slow = True
        return (
            f"{self.folder.name} has taken {describe_seconds(taken)}, where about "
            f"{describe_seconds(self.estimate)} were expected ({self.place})"
        )

    def __str__(self) -> str:
        share = "" if self.fraction is None else f" {self.fraction:.0%}"
        return f"{self.folder.name}: {self.place}{share}"


@dataclass
class Worker:
    """An actor.

    Attributes:
        actor: Ray's handle of it.
        share: what it holds of its node.
        has: the files that it was given, as of :func:`worker.stamps_of`.
        task: what it runs.
    """

    actor: Any
    share: Share
    has: dict[str, tuple[int, int]] = field(default_factory=dict)
    task: Task | None = None
