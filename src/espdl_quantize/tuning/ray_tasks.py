"""What runs on Ray, and on which worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json, describe_seconds
from espdl_quantize.record import IterationRecord
from espdl_quantize.setting import Setting
from espdl_quantize.tuning._backend import BackendFacts
from espdl_quantize.tuning.ray_cluster import Share

_SLOW = 2.0
"""How many times its estimate an iteration takes before somebody is told."""

_SLOW_AT_LEAST = 60.0
"""Seconds before it is."""

WAITS = "waits for its place"
"""Where an iteration is whose worker has not said anything."""


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
        has: the files that it was given, as of :func:`ray_worker.stamps_of`.
        task: what it runs.
    """

    actor: Any
    share: Share
    has: dict[str, tuple[int, int]] = field(default_factory=dict)
    task: Task | None = None


def lost_draft(task: Task, facts: BackendFacts) -> IterationRecord:
    """Return what is known of an iteration of which no worker can say anything."""
    return IterationRecord(
        id=task.number,
        rationale=task.setting.rationale,
        contract_path=facts.contract_path,
        model_name=facts.model_name,
        target_chip=facts.target_chip,
        target_given=facts.target_given,
        esp_dl_version=facts.esp_dl_version,
        num_of_bits=facts.num_of_bits,
        metric=facts.metric,
        direction=facts.direction,
        target=facts.target,
        budgets=facts.budgets,
        deploy_runtime_priority=facts.priority,
        contract_key=facts.contract_key,
        strategy=task.changed.get("strategy"),
        beside=tuple(task.changed.get("beside", ())),
    )
