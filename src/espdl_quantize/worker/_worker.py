"""A worker process, as the process sees it that started it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO

from espdl_quantize.core import EspdlQuantizeError, Json
from espdl_quantize.worker._death import Death, death_of, memory_kills, overrun
from espdl_quantize.worker._wire import decode, encode

# The import path is the parent's own, as multiprocessing does it: a contract may import what the
# parent can. Nothing is imported before that, lest a file of the working directory be found first.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; sys.argv[:] = ['espdl-quantize']; "
    "from espdl_quantize.worker._serve import serve; serve(tied={tied})"
)
_PATIENCE = 0.2
"""Seconds between two looks at a silent process: its own children may hold its pipe open."""

_GRACE = 5.0
"""Seconds for the last words of a dead process to come through."""

_DUMP = 5.0
"""Seconds for a hung process to write down where it hangs."""

_FAREWELL = 10.0
"""Seconds for an idle process to end."""

_TAIL = 2000
"""Bytes of what a process printed last that may be told."""


class WorkerDiedError(EspdlQuantizeError):
    """A worker process came to its end, or was brought to it, in the middle of its work."""

    def __init__(self, death: Death) -> None:
        self.death = death
        super().__init__(death.cause, death.hint)


class Worker:
    """One process; nothing of it is left behind, whatever ends this one.

    It has a process group of its own, so that Ctrl-C in a terminal does not reach it, and so that
    it can be ended together with the processes that a DataLoader starts.
    """

    def __init__(self) -> None:
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # Linux ends a tied process with the thread that started it, which may not be for long.
        tied = threading.current_thread() is threading.main_thread()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(tied=tied), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def ask(
        self,
        order: Json,
        hear: Callable[[Json], None] = lambda _: None,
        limit: float | None = None,
        describe: Callable[[float], str] = "{:g} s".format,
    ) -> Json:
        """Give an order and wait for its answer.

        Args:
            order: what to do.
            hear: given every message before the answer.
            limit: seconds that it may take.
            describe: writes the limit.

        Raises:
            WorkerDiedError: the process ended, or took too long and was ended.
        """
        kills = memory_kills()
        deadline = None if limit is None else time.monotonic() + limit
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.write(encode(order))
            self._process.stdin.flush()
        while True:
            message = self._next()
            if message is not None:
                if message["event"] in ("opened", "done", "failed", "refused", "broken"):
                    return message
                hear(message)
            elif self._process.poll() is not None and self._is_read():
                raise WorkerDiedError(death_of(self._process.returncode, kills))
            if deadline is not None and time.monotonic() > deadline:
                assert limit is not None
                self._end_hung()
                raise WorkerDiedError(overrun(limit, describe(limit)))

    def _next(self) -> Json | None:
        with contextlib.suppress(queue.Empty):
            line = self._lines.get(timeout=_PATIENCE)
            message = None if line is None else decode(line)
            return message if message is not None and "event" in message else None
        return None

    def _is_read(self) -> bool:
        """Tell whether everything was read that a process said before its death."""
        # Its children would keep the pipe open.
        self.kill()
        self._reader.join(_GRACE)
        return self._lines.empty()

    def _end_hung(self) -> None:
        """End a process that hangs; it writes down where, even if it is stuck in C code."""
        if hasattr(signal, "SIGABRT"):
            with contextlib.suppress(OSError):
                self._process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_DUMP)
        self.kill()

    def kill(self) -> None:
        """End the process and its children at once; may be called again."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let an idle process end; a busy one is killed."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_FAREWELL)
        self.kill()
        self._printed.close()

    def last_words(self) -> str:
        """Return the last line that it printed outside an iteration."""
        with contextlib.suppress(OSError, ValueError):
            size = self._printed.seek(0, os.SEEK_END)
            self._printed.seek(max(size - _TAIL, 0))
            lines = self._printed.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1].strip() if lines else ""
        return ""
