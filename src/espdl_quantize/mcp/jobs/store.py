"""Starts jobs, looks after them, ends them.

The folder on disk tells what there is, also to other servers and to the next one. It gives no leave
to act: which processes may be signalled says :mod:`~espdl_quantize.mcp.jobs.process`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.core import OutputFolderError, UsageError, write_json
from espdl_quantize.mcp._models import LIVE, Job, Kind
from espdl_quantize.mcp.jobs._read import read_end
from espdl_quantize.mcp.jobs.keeper import Keeper
from espdl_quantize.mcp.jobs.outcome import describe, describe_damaged, with_repetitions
from espdl_quantize.mcp.jobs.places import Page, Places
from espdl_quantize.mcp.jobs.process import Child, mark_of
from espdl_quantize.mcp.jobs.progress import ProgressReader
from espdl_quantize.mcp.jobs.record import (
    PROGRESS,
    STDERR,
    STDOUT,
    DamagedRecordError,
    JobRecord,
    is_id,
    new_id,
    save,
    time_of,
)
from espdl_quantize.record.files import SETTING

_LOGGER = logging.getLogger(__name__)

_ESCALATION = ((0.0, signal.SIGINT), (30.0, signal.SIGTERM), (40.0, signal.SIGKILL))
"""Seconds since the cancel, and what is sent then. The first is the command's own Ctrl-C; a long
computation in C answers it late, and what does not answer in half a minute hangs."""

_KEPT = 100
"""How many jobs that have ended are remembered."""


class JobStore(Keeper):
    """The jobs of one state folder, which several servers may share.

    Args:
        state: made if it is not there.
        cwd: where the commands run.
        program: the command, before its arguments.
        places: how many jobs run at a time, and how many wait.

    Raises:
        OutputFolderError: the folder cannot be written.
    """

    def __init__(
        self, state: Path, cwd: Path, program: Sequence[str] = (), *, places: Places | None = None
    ) -> None:
        super().__init__(state)
        self._cwd = cwd
        self._places = places or Places()
        self._program = tuple(program) or (*own_python(), "-m", "espdl_quantize")

    def start(
        self,
        kind: Kind,
        arguments: Sequence[str],
        output_dir: Path | None = None,
        setting: Mapping[str, Any] | None = None,
        *,
        is_light: bool = False,
    ) -> Job:
        """Start a run of the command, at once or as soon as there is a place for it.

        A job that this server has already, with the same arguments and no output folder, is
        returned as it is.

        Args:
            kind: the tool that asks for it.
            arguments: of the command.
            output_dir: the output folder that it writes into.
            setting: kept in the job's folder, and given to the command from there.
            is_light: it executes no contract.

        Raises:
            OutputFolderError: another job writes into the same folder.
            EspdlQuantizeError: too many wait already.
        """
        with self._mutex, self._locked():
            if output_dir is not None:
                self.check_free(output_dir)
            elif (same := self._same(kind, arguments, setting)) is not None:
                return self.get(same)
            records = self.records()
            is_free = self._places.is_free(records, is_light=is_light)
            if not is_free:
                self._places.check_queue(records)
            self._forget()
            job_id = new_id(kind)
            folder = self._folder / job_id
            folder.mkdir(parents=True)
            options = [*arguments, "--json", "--progress-json", str(folder / PROGRESS)]
            if setting is not None:
                write_json(folder / SETTING, setting)
                options += ["--setting", str(folder / SETTING)]
            record = JobRecord(
                job_id,
                kind,
                (*self._program, *options),
                str(output_dir) if output_dir else None,
                time.time(),
                # Whose queue it is in: of a server that has gone nobody will start it.
                pid=None if is_free else os.getpid(),
                mark=None if is_free else mark_of(os.getpid()),
                state="running" if is_free else "queued",
                is_light=is_light,
            )
            # Before there is a process: one that nobody knows of would be worse.
            save(folder, record)
            self._own[job_id] = record
            if is_free:
                self._spawn(record)
        return self.get(job_id)

    def _same(
        self, kind: Kind, arguments: Sequence[str], setting: Mapping[str, Any] | None
    ) -> str | None:
        """Return the live job of this server that does the same and writes nothing."""
        if setting is not None:
            return None
        asked = (*self._program, *arguments, "--json")
        for record in self._own.values():
            if record.kind == kind and record.is_live and record.command[: len(asked)] == asked:
                return record.job_id
        return None

    def _spawn(self, record: JobRecord) -> None:
        """Start the process of a job that has a place."""
        folder = self._folder / record.job_id
        with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
            child = subprocess.Popen(
                record.command,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # A group of its own: it outlives the server, and a signal reaches all of it.
                start_new_session=True,
            )
        self._processes[record.job_id] = Child(child)
        self._write(replace(record, state="running", pid=child.pid, mark=mark_of(child.pid)))

    def _start_queued(self) -> None:
        """Start the jobs of this server for which there is a place now, first come first."""
        queued = [record for record in self._own.values() if record.state == "queued"]
        for record in sorted(queued, key=lambda record: record.started_at):
            with self._mutex, self._locked():
                record = self._refresh(record.job_id)
                if record.state == "queued" and self._places.is_free(
                    self.records(), is_light=record.is_light
                ):
                    try:
                        self._spawn(replace(record, started_at=time.time()))
                    except OSError as error:
                        self._note(record.job_id, error)

    def get(self, job_id: str) -> Job:
        """Return how a job is now; one with a damaged record is described as such.

        Raises:
            UsageError: there is no such job.
        """
        if not is_id(job_id):
            raise UsageError(f"{job_id!r} is no id of a job", "call status for the list of jobs")
        with self._mutex:
            try:
                record = self._refresh(job_id)
            except DamagedRecordError as error:
                return describe_damaged(job_id, error)
            folder = self._folder / job_id
            reader = self._readers.setdefault(job_id, ProgressReader(folder / PROGRESS))
            progress = reader.read()
            problem = self._problems.get(job_id)
            warnings = () if problem is None else (problem,)
            job = describe(record, folder, progress, list(reader.recent), warnings)
            if record.state == "lost" and record.pid is not None:
                return with_repetitions(job, self._crashes_like(record))
            return job

    def _crashes_like(self, record: JobRecord) -> int:
        """Return how many jobs were lost that did the same as this one, itself counted."""
        same = self._task_of(record)
        return sum(
            each.state == "lost" and each.pid is not None and self._task_of(each) == same
            for each in self.records()
        )

    def _task_of(self, record: JobRecord) -> tuple[object, ...]:
        command = record.command
        end = command.index("--json") if "--json" in command else len(command)
        setting = read_end(self._folder / record.job_id / SETTING, 1 << 20)
        return (record.kind, command[:end], setting)

    def page(
        self,
        output_dir: str | None = None,
        state: str | None = None,
        offset: int = 0,
        limit: int = 10,
    ) -> Page:
        """Return jobs: those that run, those that wait, then those that ended, newest first.

        One that cannot be looked at hides no other.

        Args:
            output_dir: only those that write into this folder.
            state: only those in this state; "live" for all that have not ended.
            offset: the first of the list.
            limit: at most so many of it; on the first page, all that live are there.
        """
        with self._mutex:
            found: dict[str, tuple[int, float]] = {}
            live = 0
            for job_id in self._ids():
                with contextlib.suppress(UsageError):
                    record = self._looked_at(job_id)
                    is_live = record is not None and record.is_live
                    live += is_live
                    known = "damaged" if record is None else record.state
                    if output_dir is not None and (
                        record is None or record.output_dir != output_dir
                    ):
                        continue
                    if state is not None and state != known and not (state == "live" and is_live):
                        continue
                    rank = LIVE.index(known) if known in LIVE else len(LIVE)
                    found[job_id] = (rank, -(record.started_at if record else time_of(job_id)))
            order = sorted(found, key=lambda job_id: found[job_id])
            if offset == 0:
                limit = max(limit, sum(found[job_id][0] < len(LIVE) for job_id in order))
            shown = [self._described(job_id) for job_id in order[offset : offset + limit]]
            return Page(shown, len(order), live)

    def jobs(self, limit: int, output_dir: str | None = None) -> list[Job]:
        """Return the first jobs of :meth:`page`."""
        return self.page(output_dir, limit=limit).jobs

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
        """Ask a job to end as by Ctrl-C; the signals that follow are sent by :meth:`tend`.

        Raises:
            UsageError: there is no such job.
            DamagedRecordError: its record cannot be relied on, so no process was signalled.
        """
        if not is_id(job_id):
            raise UsageError(f"{job_id!r} is no id of a job", "call status for the list of jobs")
        with self._mutex, self._locked():
            record = self._refresh(job_id)
            if record.state == "queued":
                now = time.time()
                ended = replace(record, state="interrupted", cancel_at=now, ended_at=now)
                self._finish(ended)
            elif record.is_live and record.cancel_at is None:
                self._write(replace(record, state="cancelling", cancel_at=time.time()))
            self._press(job_id)
        return self.get(job_id)

    def tend(self) -> None:
        """Notice who has ended, and press those that were asked to end and have not.

        Whatever goes wrong with one job is logged and shown with it; the others have their turn.
        """
        for job_id in self._ids():
            with self._mutex, contextlib.suppress(UsageError):
                if job_id not in self._ended:
                    self._problems.pop(job_id, None)
                record = self._looked_at(job_id)
                if record is not None and record.is_live and record.cancel_at is not None:
                    try:
                        self._press(job_id)
                    except Exception as error:
                        self._note(job_id, error)
        self._start_queued()

    def _described(self, job_id: str) -> Job:
        try:
            return self.get(job_id)
        except Exception as error:
            self._note(job_id, error)
            return describe_damaged(job_id, error)

    def _press(self, job_id: str) -> None:
        """Send what is due to a job that was asked to end."""
        with self._mutex, self._locked():
            record = self._refresh(job_id)
            process = self._process_of(record)
            if not record.is_live or record.cancel_at is None or process is None:
                return
            if not process.can_signal:
                self._problems[job_id] = (
                    f"this system does not let the server prove that the process {record.pid} is "
                    f"this job, so it was not signalled. The server that started it does so within "
                    f"a second; if that is gone, end the process by hand: kill -INT {record.pid}"
                )
                return
            waited = time.time() - record.cancel_at
            due = [number for after, number in _ESCALATION if waited >= after]
            for number in due[record.signals :]:
                process.signal(number)
                # A stopped process does not hear; what it is meant to do is to end.
                process.signal(signal.SIGCONT)
            if len(due) > record.signals:
                self._write(replace(record, signals=len(due)))

    def _forget(self) -> None:
        """Remove the oldest jobs that have ended."""
        ended = [record for record in self.records() if not record.is_live]
        for record in ended[_KEPT:]:
            # The id is the folder's own name, which the record cannot choose.
            shutil.rmtree(self._folder / record.job_id, ignore_errors=True)
            for kept in (self._ended, self._readers, self._problems, self._logged):
                kept.pop(record.job_id, None)


def own_python() -> tuple[str, ...]:
    """Return the words that start the Python of this server."""
    # -P keeps the working folder, which is the user's, out of the import path.
    safe = ("-P",) if sys.version_info >= (3, 11) else ()
    return (sys.executable, *safe)


def reset_interrupt() -> None:
    """Make sure that children hear Ctrl-C, which those of a background shell job ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
