"""Interrupts a forked process at a chosen operation on the file system.

Python calls its audit hooks before every such operation. A hook can not be taken
away again, which is why the process is a fork that lives for one run.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from espdl_quantize.core import EspdlQuantizeError

Fault = Literal["kill", "full", "never"]
"""Kill the process before the operation; fail it and all later ones that take space; count."""

_CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"})
_TAKE_SPACE = frozenset({"open", "os.mkdir", "os.rename"})
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

DONE, KILLED, REFUSED, CRASHED = "done", "killed", "refused", "crashed"


def changing(event: str, arguments: tuple[Any, ...], root: str) -> bool:
    """Return whether an audit event is a change below ``root``."""
    if event == "open":
        flags = arguments[2]
        if not isinstance(flags, int) or not flags & _WRITES:
            return False
    elif event not in _CHANGES:
        return False
    path = arguments[0]
    # What is removed as a part of a tree has a name relative to its folder.
    return isinstance(path, (str, os.PathLike)) and (
        os.fspath(path).startswith(root) or not Path(path).is_absolute()
    )


def run_with_fault(work: Callable[[], object], root: Path, fault: Fault, at: int) -> str:
    """Run ``work`` in a fork with a fault at its ``at``-th change below ``root``.

    Returns:
        "done" where it came to its end, "killed", or "refused" where it raised an error that a
        user can fix.

    Raises:
        AssertionError: it raised anything else; its trace is the message.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(work, str(root), fault, at, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        outcome = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return KILLED
    assert outcome in (DONE, REFUSED), outcome
    return outcome


def _run(work: Callable[[], object], root: str, fault: Fault, at: int, answer: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if not changing(event, arguments, root):
            return
        seen += 1
        if fault == "kill" and seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "full" and seen >= at and event in _TAKE_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    outcome = DONE
    try:
        sys.addaudithook(hook)
        work()
    except EspdlQuantizeError:
        outcome = REFUSED
    except OSError as error:
        # The command says the same of it as of a folder that cannot be written.
        outcome = REFUSED if error.errno == errno.ENOSPC else traceback.format_exc()
    except BaseException:
        outcome = traceback.format_exc()
    os.write(answer, outcome.encode())
    os._exit(0)


def operations(work: Callable[[], object], root: Path) -> int:
    """Count the changes that ``work`` makes below ``root``, in this process."""
    seen, counting = 0, True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if counting and changing(event, arguments, str(root)):
            seen += 1

    sys.addaudithook(hook)
    work()
    counting = False
    return seen


def every(count: int, stride: int) -> Iterator[int]:
    """Yield the numbers of the operations to fail, and one behind the last."""
    yield from range(1, count + 1, stride)
