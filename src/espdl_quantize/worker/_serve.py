"""The worker process: takes orders on its stdin, answers on its stdout, and prints elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from espdl_quantize.core import EspdlQuantizeError, Json, is_out_of_memory
from espdl_quantize.record import IterationRecord
from espdl_quantize.worker._job import Job, Order, open_job
from espdl_quantize.worker._wire import decode, encode, pack_error

_PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""

_INTERVAL = 0.2
"""Seconds between two messages of how far a stage is; a terminal shows no more."""


def serve(*, tied: bool) -> None:
    """Work until the orders end, which they do with the process that gives them.

    Args:
        tied: end with the parent at once where the system can do that, also in the middle of
            C code that holds the interpreter.
    """
    if tied:
        _die_with_the_parent()
    _leave_no_core()
    orders, answers = _take_the_pipes()
    # A crash in C code leaves the stack of every thread in console.log, or in what the parent
    # reads where there is none.
    faulthandler.enable(file=2, all_threads=True)
    _Server(orders, answers).run()


class _Server:
    def __init__(self, orders: BinaryIO, answers: BinaryIO) -> None:
        self._orders, self._answers = orders, answers
        self._sending = threading.Lock()
        self._queue: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._busy = False
        self._job: Job | None = None

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while (order := self._queue.get()) is not None:
            self._busy = True
            try:
                self._send(self._answer(order))
            except (BrokenPipeError, ConnectionError):
                return
            self._busy = False

    def _read(self) -> None:
        for line in self._orders:
            self._queue.put(decode(line))
        if self._busy:
            # The parent is gone, and nobody waits for what is being computed.
            _end_at_once()
        self._queue.put(None)

    def _send(self, message: Json) -> None:
        line = encode(message)
        with self._sending:
            self._answers.write(line)
            self._answers.flush()

    def _answer(self, order: Json) -> Json:
        try:
            if order["do"] == "open":
                self._job = open_job(order["job"], order["arguments"])
                return {"event": "opened", "facts": self._job.facts}
            return self._run(Order.unpack(order["order"]))
        except EspdlQuantizeError as error:
            memory = is_out_of_memory(error)
            return {"event": "refused", "error": pack_error(error), "memory": memory}
        except (Exception, SystemExit):
            return {"event": "broken", "trace": traceback.format_exc()}

    def _run(self, order: Order) -> Json:
        assert self._job is not None
        with Relay(self._send) as relay:
            record, failure = self._job.run(order, relay, self._send_draft)
        peak = {"peak": peak_memory()}
        if failure is None:
            return {"event": "done", "record": record.to_json(), **peak}
        memory = is_out_of_memory(failure)
        return {"event": "failed", "error": pack_error(failure), "memory": memory, **peak}

    def _send_draft(self, draft: IterationRecord) -> None:
        self._send({"event": "draft", "record": draft.to_json()})


def _take_the_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep both pipes for the protocol; what anything prints goes to stderr from now on."""
    orders = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, answers


def _die_with_the_parent() -> None:
    """Ask Linux for the end of this process with its parent's; elsewhere the pipe's end tells."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_no_core() -> None:
    """Write no core file, which would be as large as the memory in use."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def peak_memory() -> Json:
    """Return the most memory that this process has had so far.

    Returns:
        ``bytes`` of the machine's memory, 0 where the system does not say; ``device_share`` of the
        memory of the first GPU, 0 where none was used.
    """
    peak, share = 0, 0.0
    with contextlib.suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # Only a job that has loaded it can have used a GPU.
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        whole = torch.cuda.get_device_properties(0).total_memory
        share = torch.cuda.max_memory_reserved(0) / whole
    return {"bytes": peak, "device_share": share}


def _end_at_once() -> None:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        # The processes of a DataLoader, too.
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


class Relay:
    """A progress that is shown elsewhere.

    Stages are sent at once. How far one is, which training says thousands of times, is sent a few
    times a second, by a thread; esp-ppq's own tqdm bars count inside the current step.

    Args:
        send: passes a message on; called from two threads.
    """

    def __init__(self, send: Callable[[Json], None]) -> None:
        self._send = send
        self._at: list[list[Any]] = []
        self._last: Json = {}
        self._ended = threading.Event()

    def __enter__(self) -> Relay:
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Send the begin and the end of a stage around the block."""
        self._at.append([0.0, None, ""])
        self._send({"event": "stage", "name": name})
        try:
            yield
        except BaseException:
            self._send({"event": "stage failed"})
            raise
        else:
            self._send({"event": "stage ended"})
        finally:
            self._at.pop()

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say how far the innermost stage is."""
        if self._at:
            self._at[-1][:] = [done, total, detail]

    def _tick(self) -> None:
        while not self._ended.wait(_INTERVAL):
            with contextlib.suppress(IndexError, OSError):
                done, total, detail = self._at[-1]
                inner = _innermost_bar()
                if total:
                    done += inner or 0.0
                elif inner is not None:
                    done, total = inner, 1.0
                message = {"event": "update", "done": done, "total": total, "detail": detail}
                if message != self._last:
                    self._last = message
                    self._send(message)


def _innermost_bar() -> float | None:
    """Return how far the newest of esp-ppq's tqdm bars is; they themselves go to the log."""
    # The thread must not be the first to import it.
    tqdm: Any = getattr(sys.modules.get("tqdm"), "tqdm", None)
    bars = [bar for bar in list(getattr(tqdm, "_instances", ())) if bar.total]
    return min(bars[-1].n / bars[-1].total, 1.0) if bars else None
