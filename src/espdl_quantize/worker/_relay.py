"""Sends the progress of an iteration to the process that shows it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from espdl_quantize.core import Json

_INTERVAL = 0.2
"""Seconds between two messages of how far a stage is; a terminal shows no more."""


class Relay:
    """A progress that is shown elsewhere.

    Stages are told at once. How far one is, which training tells thousands of times, is told a few
    times a second, by a thread; esp-ppq's own tqdm bars count inside the current step.

    Args:
        send: passes a message on; called from two threads.
    """

    def __init__(self, send: Callable[[Json], None]) -> None:
        self._send = send
        self._at: list[list[Any]] = []
        self._told: Json = {}
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
        """Tell of a stage while the block runs."""
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
                if message != self._told:
                    self._told = message
                    self._send(message)


def _innermost_bar() -> float | None:
    """Return how far the newest of esp-ppq's tqdm bars is; they themselves go to the log."""
    # The thread must not be the first to import it.
    tqdm: Any = getattr(sys.modules.get("tqdm"), "tqdm", None)
    bars = [bar for bar in list(getattr(tqdm, "_instances", ())) if bar.total]
    return min(bars[-1].n / bars[-1].total, 1.0) if bars else None
