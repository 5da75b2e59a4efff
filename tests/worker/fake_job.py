"""A job that needs no torch: made-up iterations, and every way to die among them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.core import (
    ContractError,
    Direction,
    EspdlQuantizeError,
    IterationError,
    Json,
    Progress,
)
from espdl_quantize.iteration import captured
from espdl_quantize.record import IterationRecord, read_record
from espdl_quantize.tuning import BackendFacts
from espdl_quantize.worker import Order, Runner
from tests.tuning.fake_backend import FakeBackend

JOB = "tests.worker.fake_job:open_fake"
ROOT = Path(__file__).parent.parent.parent


def _segfault() -> None:
    ctypes.string_at(0)


def _eat(order: Order) -> None:
    if not order.options.get("reduced_memory"):
        raise MemoryError("DefaultCPUAllocator: can't allocate memory")


def _raise(error: BaseException) -> None:
    raise error


def _sleep(order: Order) -> None:
    # A process of its own, as a DataLoader has.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (order.folder.parent / "asleep").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(60)


WAYS: dict[str, Callable[[Order], Any]] = {
    "segfault": lambda order: _segfault(),
    "abort": lambda order: os.abort(),
    "exit": lambda order: os._exit(3),
    "exit well": lambda order: os._exit(0),
    "kill": lambda order: os.kill(os.getpid(), signal.SIGKILL),
    "hang": _sleep,
    "memory": _eat,
    "much memory": lambda order: _raise(MemoryError("std::bad_alloc")),
    "contract": lambda order: _raise(ContractError("no 'top1'", "return it")),
    "error": lambda order: _raise(IterationError("boom", "fix it")),
    "interrupt": lambda order: _raise(KeyboardInterrupt()),
    "broken": lambda order: _raise(ZeroDivisionError("a fault of the program")),
    "print": lambda order: os.write(1, b'{"event": "done"}\n'),
}


class FakeJob:
    """Dies as it is told, by the number of the iteration; "late" is after the index is written."""

    def __init__(self, deaths: dict[str, str], target: float | None, seconds: float) -> None:
        self._deaths, self._seconds = deaths, seconds
        self._made = FakeBackend(target=target)
        print("the job is open")

    @property
    def facts(self) -> Json:
        found = self._made.facts
        return {
            name: getattr(found, name)
            for name in (
                "metric",
                "direction",
                "model_name",
                "target_chip",
                "target",
                "num_of_bits",
            )
        }

    def run(
        self, order: Order, progress: Progress, on_draft: Callable[[IterationRecord], None]
    ) -> tuple[IterationRecord, EspdlQuantizeError | None]:
        way = self._deaths.get(str(order.setting.iteration_id), "")
        when, _, way = way.rpartition(" at ") if " at " in way else ("", "", way)
        failure: EspdlQuantizeError | None = None
        with captured(order.staging / "console.log"):
            print("begun")
            time.sleep(self._seconds)
            try:
                with progress.stage("quantize"):
                    on_draft(IterationRecord(metric="top1", direction=Direction.MAX, seed=7))
                    progress.update(1, 2, "half")
                    with progress.stage("tqt"):
                        if way and when != "late":
                            WAYS[way](order)
            except EspdlQuantizeError as error:
                failure = error
            except MemoryError as error:
                failure = IterationError(f"out of memory: {error}")
                failure.__cause__ = error
            value = None if failure else self._made.score(order.setting)
            self._made._write(order.setting, value, order.staging, failure)
            if way and when == "late":
                WAYS[way](order)
        record = replace(
            read_record(order.staging),
            warnings=order.notes,
            reduced_memory=order.options.get("reduced_memory", False),
        )
        return record, failure


def open_fake(
    deaths: dict[str, str] | None = None, target: float | None = None, seconds: float = 0.0
) -> FakeJob:
    if (deaths or {}).get("open") == "exit":
        with captured(None):
            print("no such library")
            os._exit(4)
    if (deaths or {}).get("open") == "hang":
        time.sleep(60)
    return FakeJob(deaths or {}, target, seconds)


class FakeIsolatedBackend:
    """A backend of made-up iterations in a worker process."""

    def __init__(self, limit: float | None = None, **arguments: Any) -> None:
        self.runner = Runner(JOB, arguments, {})
        self._limit = limit

    @property
    def facts(self) -> BackendFacts:
        return BackendFacts(**self.runner.facts)

    def run(self, setting: Any, folder: Path, progress: Progress, **_: Any) -> IterationRecord:
        return self.runner.run(setting, folder, progress, limit=self._limit)
