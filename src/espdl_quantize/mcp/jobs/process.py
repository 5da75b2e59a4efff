"""Which processes are a job's, and the only ways in which one is signalled.

A record in the project's folder may come from anybody: a number in it is a claim. Two kinds of
processes are taken for a job's own and signalled:

* a child of this server, by the handle that starting it returned (:class:`Child`);
* what another server of this user has started, where the running process itself proves it: its
  boot, its start time, its owner and its whole command line, which names this job's folder
  (:class:`Verified`). The proof is taken on a descriptor of the process, and the signals go through
  that descriptor: none reaches a later process of the same number.

Where the system cannot prove that much, a process is looked at and not signalled (:class:`Seen`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_PROC = Path("/proc")
_DEAD = ("Z", "X")
"""States of a process that has ended and was not waited for."""
_PROCESS_GROUP = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), Linux 6.9: the group of that number which the
descriptor's process has led, also after its end, and no later group of the same number."""

_STARTING = 0.5
"""Seconds for a process that has no command line yet."""


class JobProcess(Protocol):
    """The process of a job; it leads a group of its own."""

    @property
    def can_signal(self) -> bool:
        """Whether it is certain enough whose process it is."""

    def has_ended(self) -> bool:
        """Tell whether it has; its exit code stays to be collected."""

    def signal(self, number: int) -> None:
        """Send a signal to its group; nothing happens where nobody is left, or in doubt."""

    def close(self) -> int | None:
        """Let go of a process that has ended.

        Returns:
            The exit code, negative for a signal; None where it is not this server's child.
        """


class Child:
    """A process that this server has started, in a session of its own.

    Until :meth:`close` collects its exit code, the system gives its number to nobody else, as a
    process or as a group, and so signals by number cannot go astray.
    """

    can_signal = True

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def has_ended(self) -> bool:
        """Tell whether it has; its exit code stays to be collected."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return mark_of(self._process.pid) is None
        try:
            how = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, how) is not None
        except ChildProcessError:
            return True

    def signal(self, number: int) -> None:
        """Send a signal to its group, whether or not the process itself still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def close(self) -> int | None:
        """Collect the exit code."""
        return self._process.poll()


class Verified:
    """A process of another server's that has proved what it is.

    Args:
        descriptor: of the process (pidfd), which was open while it was verified.
    """

    can_signal = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def has_ended(self) -> bool:
        """Tell whether it has."""
        return self._descriptor is None or _is_readable(self._descriptor)

    def signal(self, number: int) -> None:
        """Send a signal to its group; before Linux 6.9, to the process alone."""
        if self._descriptor is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                signal.pidfd_send_signal(self._descriptor, number, None, _PROCESS_GROUP)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                signal.pidfd_send_signal(self._descriptor, number)

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Seen:
    """A process that looks like a job's, on a system that cannot prove it: never signalled."""

    can_signal = False

    def __init__(self, pid: int, mark: str, command: Sequence[str]) -> None:
        self._pid, self._mark, self._command = pid, mark, command

    def has_ended(self) -> bool:
        """Tell whether it has, as far as it can be seen."""
        return mark_of(self._pid) != self._mark or not _has_command(self._pid, self._command)

    def signal(self, number: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def identify(pid: int, mark: str, command: Sequence[str]) -> JobProcess | None:
    """Return the process that a record claims; None where no process that runs fits all of it.

    Args:
        pid: its number.
        mark: as of :func:`mark_of` when it was started.
        command: its whole command line.
    """
    if pid <= 1 or pid == os.getpid():
        return None
    if not (_PROC / "self" / "stat").exists() or not hasattr(os, "pidfd_open"):
        return _see(pid, mark, command)
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            return None
        if error.errno in (errno.ENOSYS, errno.EPERM):
            # An old kernel, or a sandbox.
            return _see(pid, mark, command)
        # Too many open files, say: this says nothing about the process.
        raise
    try:
        # What is read under the number is of the descriptor's process until that has ended.
        fits = (
            mark_of(pid) == mark
            and _leads_a_session_of_ours(pid)
            and _has_command(pid, command)
            and not _is_readable(descriptor)
        )
    except BaseException:
        os.close(descriptor)
        raise
    if fits:
        return Verified(descriptor)
    os.close(descriptor)
    return None


def _see(pid: int, mark: str, command: Sequence[str]) -> Seen | None:
    seen = Seen(pid, mark, command)
    return None if seen.has_ended() else seen


def mark_of(pid: int) -> str | None:
    """Return what no other process with this number has, ever; None where it does not run.

    On Linux that is the boot and the clock tick at which it started (proc(5), field 22 of stat);
    elsewhere, what ``ps`` calls its start.
    """
    if (_PROC / "self" / "stat").exists():
        return _mark_by_proc(pid)
    return _mark_by_ps(pid)


def _mark_by_proc(pid: int) -> str | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name, in brackets, may hold blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in _DEAD else f"{boot} {fields[19]}"


def _mark_by_ps(pid: int) -> str | None:
    state, _, started = _ps(pid, "-o", "stat=", "-o", "lstart=").partition(" ")
    return None if not started or state.startswith(_DEAD) else started.strip()


def _has_command(pid: int, command: Sequence[str]) -> bool:
    """Tell whether a process was started with exactly this command line."""
    if not (_PROC / "self" / "stat").exists():
        return _ps(pid, "-ww", "-o", "command=") == " ".join(command).strip()
    try:
        file = _PROC / str(pid) / "cmdline"
        deadline = time.monotonic() + _STARTING
        # It is empty for a moment while the program is being loaded.
        while not (content := file.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return content.split(b"\0")[:-1] == [os.fsencode(word) for word in command]
    except (FileNotFoundError, ProcessLookupError, PermissionError, UnicodeError):
        return False


def _leads_a_session_of_ours(pid: int) -> bool:
    """Tell whether a process was started as jobs are: by this user, in a session of its own."""
    try:
        owner = (_PROC / str(pid)).stat().st_uid
        return owner == os.geteuid() and os.getpgid(pid) == os.getsid(pid) == pid
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def _is_readable(descriptor: int) -> bool:
    """Tell whether the process of a descriptor has ended."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _ps(pid: int, *what: str) -> str:
    done = subprocess.run(
        ["ps", *what, "-p", str(pid)],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    return done.stdout.strip()
