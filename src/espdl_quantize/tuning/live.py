"""Keeps the file from which a search can be watched."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from espdl_quantize.core import Progress
from espdl_quantize.record import History, Iteration, LiveState, write_live
from espdl_quantize.search.plain_names import phase_name, proposal_name
from espdl_quantize.tuning._events import Observer, Status
from espdl_quantize.tuning._plan import Plan

_EVERY = 0.5
"""Seconds between two states, at least, while only the fraction changes."""


class Live(Observer):
    """Passes progress and events on, and writes down where the search stands.

    Args:
        outputs: the output folder.
        progress: receives every stage.
        observer: receives every event.
    """

    def __init__(self, outputs: Path, progress: Progress, observer: Observer) -> None:
        self._outputs, self._progress, self._observer = outputs, progress, observer
        self._stages: list[tuple[str, float]] = []
        self._fraction: float | None = None
        self._detail = self._what = ""
        self._iteration: int | None = None
        self._ends: float | None = None
        self._written = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Enter a stage."""
        self._stages.append((name, time.time()))
        self._fraction, self._detail = None, ""
        self.write()
        try:
            with self._progress.stage(name):
                yield
        finally:
            self._stages.pop()
            self._fraction, self._detail = None, ""

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say how far the innermost stage is."""
        self._progress.update(done, total, detail)
        self._fraction = min(max(done / total, 0.0), 1.0) if total else None
        self._detail = detail
        if time.monotonic() - self._written > _EVERY:
            self.write()

    def planned(self, plan: Plan) -> None:
        """Pass it on."""
        self._observer.planned(plan)

    def iteration_started(self, status: Status) -> None:
        """Write down what begins."""
        proposal, best = status.proposal, status.history.best
        self._iteration = proposal.setting.iteration_id
        of = "" if status.budget.iterations is None else f" of {status.budget.iterations}"
        parts = [f"iter_{self._iteration}: {phase_name(proposal.phase)}", proposal_name(proposal)]
        parts.append(f"iteration {status.number}{of}")
        if best is not None and best.value is not None:
            parts.append(f"best {status.history.metric} {best.value:.6g} ({best.name})")
        self._what = " | ".join(parts)
        left = status.seconds_left
        if left is None and status.estimate is not None and status.budget.iterations is not None:
            left = status.estimate.seconds * (status.budget.iterations - status.number + 1)
        self._ends = None if left is None else time.time() + left
        self.write()
        self._observer.iteration_started(status)

    def iteration_ended(self, iteration: Iteration, history: History) -> None:
        """Pass it on."""
        self._iteration = None
        self.write()
        self._observer.iteration_ended(iteration, history)

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._observer.notice(text)

    def ended(self) -> None:
        """Write down that the search runs no more."""
        self._stages, self._iteration, self._ends = [], None, None
        self.write(is_running=False)

    def write(self, *, is_running: bool = True) -> None:
        """Write the state."""
        self._written, now = time.monotonic(), time.time()
        state = LiveState(
            is_running=is_running,
            iteration=self._iteration,
            what=self._what,
            stages=tuple(name for name, _ in self._stages),
            fraction=self._fraction,
            detail=self._detail,
            seconds_left=None if self._ends is None else max(0.0, self._ends - now),
            started=self._stages[-1][1] if self._stages else None,
            updated=now,
            process=os.getpid(),
        )
        write_live(self._outputs, state)
