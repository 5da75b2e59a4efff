"""What a worker process is there for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from espdl_quantize.core import EspdlQuantizeError, Json, Progress
from espdl_quantize.record import IterationRecord
from espdl_quantize.setting import Setting, parse_setting


@dataclass(frozen=True)
class Order:
    """One iteration to be run.

    Attributes:
        setting: under the number of ``folder``.
        folder: where the iteration will be.
        staging: where to write it; the process that gave the order puts it in its place.
        options: of the job.
        notes: warnings to begin with.
    """

    setting: Setting
    folder: Path
    staging: Path
    options: Json
    notes: tuple[str, ...] = ()

    def pack(self) -> Json:
        """Write it as plain data."""
        return {
            "setting": self.setting.model_dump(exclude_unset=True),
            "folder": str(self.folder),
            "staging": str(self.staging),
            "options": self.options,
            "notes": list(self.notes),
        }

    @classmethod
    def unpack(cls, form: Json) -> Order:
        """Read what :meth:`pack` wrote."""
        return cls(
            parse_setting(form["setting"]),
            Path(form["folder"]),
            Path(form["staging"]),
            form["options"],
            tuple(form["notes"]),
        )


class Job(Protocol):
    """Lives in the worker process, from its first order to its last."""

    @property
    def facts(self) -> Json:
        """What it says of itself once, as plain data."""

    def run(
        self, order: Order, progress: Progress, on_draft: Callable[[IterationRecord], None]
    ) -> tuple[IterationRecord, EspdlQuantizeError | None]:
        """Run one iteration into ``order.staging``, the record last.

        Args:
            order: what to run.
            progress: notified of every stage.
            on_draft: given the record as it stands, so that a process that dies leaves a trace.

        Returns:
            The record, and why the iteration failed, if it did.

        Raises:
            EspdlQuantizeError: nothing came of it, not even a failed iteration.
        """


def open_job(path: str, arguments: Json) -> Job:
    """Call the function at ``package.module:function``, which returns the job."""
    module, _, name = path.partition(":")
    make: Any = getattr(importlib.import_module(module), name)
    job: Job = make(**arguments)
    return job
