"""Tells a process from a later one that was given the same number."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

_PROC = Path("/proc")
_DEAD = ("Z", "X")
"""States of a process that has ended and was not waited for."""


def mark_of(pid: int) -> str | None:
    """Return what no other process with this number has, ever; None where it does not run.

    On Linux that is the boot and the clock tick at which it started (proc(5), field 22 of stat);
    elsewhere, what ``ps`` calls its start.
    """
    if (_PROC / "self" / "stat").exists():
        return _mark_by_proc(pid)
    return _mark_by_ps(pid)


def is_running(pid: int, mark: str) -> bool:
    """Tell whether the process that had this mark still runs."""
    return mark_of(pid) == mark


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the group that a process leads; nothing happens where it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _mark_by_proc(pid: int) -> str | None:
    try:
        told = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    # The name, in brackets, may hold blanks and brackets itself.
    fields = told.rpartition(")")[2].split()
    return None if fields[0] in _DEAD else f"{boot} {fields[19]}"


def _mark_by_ps(pid: int) -> str | None:
    done = subprocess.run(
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    state, _, started = done.stdout.strip().partition(" ")
    return None if not started or state.startswith(_DEAD) else started.strip()
