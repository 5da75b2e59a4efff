"""Starts jobs, looks after them, ends them; the folder on disk is the only truth."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from espdl_quantize.errors import OutputFolderError, UsageError
from espdl_quantize.jsonio import write_json
from espdl_quantize.mcp._models import Job, Kind
from espdl_quantize.mcp.jobs._outcome import describe, outcome
from espdl_quantize.mcp.jobs._process import is_running, mark_of, signal_group
from espdl_quantize.mcp.jobs._progress import ProgressReader
from espdl_quantize.mcp.jobs._record import (
    PROGRESS,
    RECORD,
    SETTING,
    STDERR,
    STDOUT,
    JobRecord,
    is_id,
    load,
    new_id,
    save,
)

_ESCALATION = ((0.0, signal.SIGINT), (30.0, signal.SIGTERM), (40.0, signal.SIGKILL))
"""Seconds since the cancel, and what is sent then. The first is the command's own Ctrl-C; a long
computation in C answers it late, and what does not answer in half a minute hangs."""

_KEPT = 100
"""How many jobs that have ended are remembered."""


class JobStore:
    """The jobs of one state folder, which several servers may share.

    Args:
        state: made if it is not there.
        cwd: where the commands run.
        program: the command, before its arguments.

    Raises:
        OutputFolderError: the folder cannot be written.
    """

    def __init__(self, state: Path, cwd: Path, program: Sequence[str] = ()) -> None:
        self._folder, self._cwd = state / "jobs", cwd
        self._program = tuple(program) or (*own_python(), "-m", "espdl_quantize")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Nobody wants the records in a repository. "x" follows no link that came with one.
            with contextlib.suppress(FileExistsError), (state / ".gitignore").open("x") as file:
                file.write("*\n")
        except OSError as error:
            raise OutputFolderError(
                f"{self._folder} cannot be written: {error.strerror or error}",
                "give --state-dir a folder that you can write to",
            ) from error
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: dict[str, ProgressReader] = {}
        self._ended: dict[str, JobRecord] = {}
        self._mutex = threading.RLock()
        self._lock = FileLock(state / ".lock")

    def start(
        self,
        kind: Kind,
        arguments: Sequence[str],
        output_dir: Path | None = None,
        setting: Mapping[str, Any] | None = None,
    ) -> Job:
        """Start a run of the command.

        Args:
            kind: the tool that asks for it.
            arguments: of the command.
            output_dir: the output folder that it writes into.
            setting: kept in the job's folder, and given to the command from there.

        Raises:
            OutputFolderError: another job writes into the same folder.
        """
        with self._mutex, self._lock:
            if output_dir is not None:
                self.check_free(output_dir)
            self._forget()
            job_id = new_id(kind)
            folder = self._folder / job_id
            folder.mkdir(parents=True)
            told = [*arguments, "--json", "--progress-json", str(folder / PROGRESS)]
            if setting is not None:
                write_json(folder / SETTING, setting)
                told += ["--setting", str(folder / SETTING)]
            command = (*self._program, *told)
            record = JobRecord(
                job_id, kind, command, str(output_dir) if output_dir else None, time.time()
            )
            # Before there is a process: one that nobody knows of would be worse.
            save(folder, record)
            with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
                child = subprocess.Popen(
                    command,
                    cwd=self._cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    # A group of its own: it outlives the server, and a signal reaches all of it.
                    start_new_session=True,
                )
            self._children[job_id] = child
            save(folder, replace(record, pid=child.pid, mark=mark_of(child.pid)))
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return how a job is now.

        Raises:
            UsageError: there is no such job.
        """
        if not is_id(job_id):
            raise UsageError(f"{job_id!r} is no id of a job", "call status for the list of jobs")
        with self._mutex:
            record = self._refresh(job_id)
            reader = self._readers.setdefault(
                job_id, ProgressReader(self._folder / job_id / PROGRESS)
            )
            progress = reader.read()
            return describe(record, self._folder / job_id, progress, list(reader.recent))

    def records(self) -> list[JobRecord]:
        """Return all jobs, newest first."""
        # What another server forgot is gone.
        names = [entry.parent.name for entry in self._folder.glob(f"*/{RECORD}")]
        found = []
        with self._mutex:
            for name in filter(is_id, names):
                # One damaged record must not hide the others.
                with contextlib.suppress(OutputFolderError):
                    found.append(self._refresh(name))
        return sorted(found, key=lambda record: record.started_at, reverse=True)

    def check_free(self, output_dir: Path) -> None:
        """Refuse an output folder that a job writes into.

        Raises:
            OutputFolderError: one does.
        """
        for record in self.records():
            if record.is_live and record.output_dir == str(output_dir):
                raise OutputFolderError(
                    f"{output_dir} is in use by the job {record.job_id}",
                    "wait for it (status), cancel it, or use another output folder",
                )

    def cancel(self, job_id: str) -> Job:
        """Ask a job to end as by Ctrl-C; the signals that follow are sent by :meth:`tend`."""
        self.get(job_id)
        self._change(job_id, lambda record: replace(record, cancel_at=time.time()), once=True)
        self._press(job_id)
        return self.get(job_id)

    def tend(self) -> None:
        """Notice who has ended, and press those that were asked to end and have not."""
        for record in self.records():
            if record.is_live and record.cancel_at is not None:
                self._press(record.job_id)

    def _press(self, job_id: str) -> None:
        with self._mutex, self._lock:
            record = self._refresh(job_id)
            if not record.is_live or record.cancel_at is None or record.pid is None:
                return
            waited = time.time() - record.cancel_at
            due = [number for after, number in _ESCALATION if waited >= after]
            for number in due[record.signals :]:
                signal_group(record.pid, number)
                # A stopped process does not hear; what it is meant to do is to end.
                signal_group(record.pid, signal.SIGCONT)
            if len(due) > record.signals:
                save(self._folder / job_id, replace(record, signals=len(due)))

    def _refresh(self, job_id: str) -> JobRecord:
        """Read a record, and write down its end where it has ended meanwhile."""
        # What has ended does not change any more.
        if job_id in self._ended:
            return self._ended[job_id]
        folder = self._folder / job_id
        record = load(folder)
        if not record.is_live:
            return self._ended.setdefault(job_id, record)
        child = self._children.get(job_id)
        # Also reaps it: an unreaped child would look alive to its parent alone.
        code = None if child is None else child.poll()
        if record.pid is None and child is None:
            # Another server is about to write the process down, or was killed before it could.
            with self._lock:
                record = load(folder)
        if record.pid is None or record.mark is None:
            running = child is not None and code is None
        else:
            running = code is None and is_running(record.pid, record.mark)
        if running:
            return record
        return self._change(job_id, lambda now: outcome(now, folder, code))

    def _forget(self) -> None:
        """Remove the oldest jobs that have ended."""
        ended = [record for record in self.records() if not record.is_live]
        for record in ended[_KEPT:]:
            shutil.rmtree(self._folder / record.job_id, ignore_errors=True)
            self._ended.pop(record.job_id, None)
            self._readers.pop(record.job_id, None)

    def _change(
        self, job_id: str, change: Callable[[JobRecord], JobRecord], once: bool = False
    ) -> JobRecord:
        with self._mutex, self._lock:
            folder = self._folder / job_id
            record = load(folder)
            if not record.is_live or (once and record.cancel_at is not None):
                return record
            changed = change(record)
            if changed.cancel_at is not None and changed.is_live:
                changed = replace(changed, state="cancelling")
            save(folder, changed)
            if not changed.is_live:
                self._children.pop(job_id, None)
                _sweep(changed)
            return changed


def _sweep(record: JobRecord) -> None:
    """Kill what a process that did not end by itself has left of its group."""
    if record.pid is None or record.state not in ("interrupted", "lost"):
        return
    # While somebody of the group lives, its number is given to nobody else; a process that has
    # the number itself is somebody else.
    if mark_of(record.pid) is None:
        signal_group(record.pid, signal.SIGKILL)


def own_python() -> tuple[str, ...]:
    """Return the words that start the Python of this server."""
    # -P keeps the working folder, which is the user's, out of the import path.
    safe = ("-P",) if sys.version_info >= (3, 11) else ()
    return (sys.executable, *safe)


def reset_interrupt() -> None:
    """Make sure that children hear Ctrl-C, which those of a background shell job ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
