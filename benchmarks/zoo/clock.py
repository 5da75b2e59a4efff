"""A time after which whatever runs is ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any


class TimeUpError(BaseException):
    """Ends a search from within; no handler of ordinary errors may stop it."""


class Clock:
    """Counts a search's seconds, and raises within it when they are up; may be paused.

    Args:
        seconds: how many.
    """

    def __init__(self, seconds: float) -> None:
        self._limit, self._spent, self._since = seconds, 0.0, 0.0
        self.is_running = False

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        running = time.monotonic() - self._since if self.is_running else 0.0
        return self._spent + running

    def __enter__(self) -> Clock:
        self._since, self.is_running = time.monotonic(), True
        signal.signal(signal.SIGALRM, self._up)
        signal.setitimer(signal.ITIMER_REAL, max(self._limit - self._spent, 1e-3))
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._spent, self.is_running = self.seconds, False

    def outside(self, work: Callable[[], Any]) -> Any:
        """Do something that does not count."""
        self.__exit__()
        try:
            return work()
        finally:
            self.__enter__()

    @staticmethod
    def _up(*_: object) -> None:
        raise TimeUpError
