"""How many jobs run at a time, and what is shown of those that there are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from espdl_quantize.core import EspdlQuantizeError
from espdl_quantize.mcp._models import Job
from espdl_quantize.mcp.jobs.record import JobRecord

_QUEUE = 20
"""Jobs that may wait; who asks for more has lost count."""
_LIGHT = 4
"""Jobs that run at a time and execute no contract."""


def default_places() -> int:
    """Return one place per pair of cores: a run of a contract keeps about two busy."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max((count or 1) // 2, 1)


@dataclass(frozen=True)
class Places:
    """Where jobs run.

    Attributes:
        contract: jobs that execute a contract, at a time.
        light: others, at a time.
        queue: jobs that may wait.
    """

    contract: int = field(default_factory=default_places)
    light: int = _LIGHT
    queue: int = _QUEUE

    def is_free(self, records: Sequence[JobRecord], *, is_light: bool) -> bool:
        """Tell whether one more job of its kind may run beside those that do."""
        running = [
            record
            for record in records
            if record.state in ("running", "cancelling") and record.is_light == is_light
        ]
        return len(running) < (self.light if is_light else self.contract)

    def check_queue(self, records: Sequence[JobRecord]) -> None:
        """Refuse one more job that would wait.

        Raises:
            EspdlQuantizeError: too many do.
        """
        waiting = sum(record.state == "queued" for record in records)
        if waiting >= self.queue:
            raise EspdlQuantizeError(
                f"{waiting} jobs wait already, and none was added",
                "status {state: live} lists them: wait for them, or cancel what is not needed",
            )


@dataclass(frozen=True)
class Page:
    """Jobs of a list.

    Attributes:
        jobs: of this page.
        total: that match, on all pages.
        live: that have not ended, whatever was asked for.
    """

    jobs: list[Job]
    total: int
    live: int
