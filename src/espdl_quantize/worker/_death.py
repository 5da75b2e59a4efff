"""Says how a worker process came to its end, as far as it can be known."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.core import Hint, Option

_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP")
_MEMORY = "take a smaller batch_size or fewer calibration batches, or free memory of the machine"


@dataclass(frozen=True)
class Death:
    """How a process ended.

    Attributes:
        cause: in words.
        hint: what to do about it.
        out_of_memory: it ran out of memory, or that is the most likely reason.
    """

    cause: str
    hint: str
    out_of_memory: bool = False


def overrun(limit: float, limit_in_words: str) -> Death:
    """Return the end of a process that took longer than its limit.

    Args:
        limit: seconds.
        limit_in_words: the same.
    """
    return Death(
        f"it took longer than its limit of {limit_in_words}",
        Hint(
            "console.log ends with the stack of every thread; if it only needs longer, raise ",
            Option.ITERATION_LIMIT,
        ),
    )


def death_of(code: int, kills_before: int | None) -> Death:
    """Explain the exit code of a process.

    Args:
        code: as of ``Popen.returncode``: negative for a signal.
        kills_before: what :func:`memory_kills` said when its work began.
    """
    if code >= 0:
        return Death(
            f"the worker process ended by itself, with exit code {code}",
            "something in the contract or a library ends the process (os._exit, for one); "
            "console.log has what it printed",
        )
    name = _signal_name(-code)
    if -code == signal.SIGKILL:
        return _killed(name, kills_before)
    if name not in _CRASHES:
        return Death(
            f"the worker process was ended with {name}",
            "something or somebody on this machine ended it; run the same command again",
        )
    return Death(
        f"the worker process crashed with {name}",
        Hint(
            "console.log ends with the stack of every thread; ",
            Option.IN_PROCESS.of(True),
            " runs it without a process of its own",
        ),
    )


def _killed(name: str, kills_before: int | None) -> Death:
    kills = memory_kills()
    if kills is None or kills_before is None:
        cause = f"the worker process was killed with {name}, likely because memory ran out"
        return Death(cause, _MEMORY, out_of_memory=True)
    if kills > kills_before:
        cause = f"the worker process was killed with {name} because memory ran out"
        return Death(cause, _MEMORY, out_of_memory=True)
    return Death(
        f"the worker process was killed with {name}, and not by the kernel for memory",
        "something or somebody on this machine killed it; run the same command again",
    )


def memory_kills() -> int | None:
    """Return how many processes the kernel has killed for memory so far; None where it is silent.

    Linux counts them in each control group, and for the whole machine in /proc/vmstat.
    """
    if not sys.platform.startswith("linux"):
        return None
    counts = [count for file in _counters() if (count := _count_in(file)) is not None]
    return sum(counts) if counts else None


def _counters() -> Iterator[Path]:
    yield Path("/proc/vmstat")
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            yield Path(f"/sys/fs/cgroup{group}/memory.events")
        elif "memory" in controllers.split(","):
            yield Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control")


def _count_in(file: Path) -> int | None:
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        return None
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
