"""The time that a strategy has: of the wall, or of the processor.

On a machine that others use, too, a strategy gets what they leave, and seconds of the wall say
little. With one thread, seconds of the processor are those that the wall would show on a machine
that does nothing else, apart from what the others do to its caches.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

WALL, CPU = CLOCKS = ("wall", "cpu")


def count_processor_time() -> None:
    """Let everything in this process that measures time measure that of the processor.

    So what is expected of an iteration, and what is left, are in the same seconds.
    """
    for name in ("monotonic", "perf_counter"):
        setattr(time, name, time.process_time)


class TimeUpError(BaseException):
    """Ends a search from within; no handler of ordinary errors may stop it."""


class Clock:
    """Counts a search's seconds, and raises within it when they are up; may be paused.

    Args:
        seconds: how many.
        kind: "wall", or "cpu".
    """

    def __init__(self, seconds: float, kind: str = WALL) -> None:
        self._limit, self._spent, self._since = seconds, 0.0, 0.0
        self._timer, self._signal, self._now = signal.ITIMER_REAL, signal.SIGALRM, time.monotonic
        if kind == CPU:
            self._timer, self._signal = signal.ITIMER_PROF, signal.SIGPROF
            self._now = time.process_time
        self.is_running = False

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        running = self._now() - self._since if self.is_running else 0.0
        return self._spent + running

    def __enter__(self) -> Clock:
        self._since, self.is_running = self._now(), True
        signal.signal(self._signal, self._up)
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(self._timer, 0)
        self._spent, self.is_running = self.seconds, False

    def outside(self, work: Callable[[], Any]) -> Any:
        """Do something that does not count."""
        self.__exit__()
        try:
            return work()
        finally:
            self.__enter__()

    def _arm(self) -> None:
        signal.setitimer(self._timer, max(self._limit - self.seconds, 1e-3))

    def _up(self, *_: object) -> None:
        if not self.is_running:
            # It came just as the clock was paused, and comes again.
            return
        if self.seconds < self._limit:
            # The timer of the processor counts in ticks, and may be early.
            self._arm()
            return
        raise TimeUpError
