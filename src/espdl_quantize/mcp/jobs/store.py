"""Starts jobs, looks after them, ends them.

The folder on disk tells what there is, also to other servers and to the next one. It gives no leave
to act: which processes may be signalled says :mod:`~espdl_quantize.mcp.jobs.process`.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError, UsageError, write_json
from espdl_quantize.mcp._models import Job, Kind
from espdl_quantize.mcp._spelling import MCP
from espdl_quantize.mcp.jobs.outcome import describe, describe_damaged, outcome
from espdl_quantize.mcp.jobs.process import Child, JobProcess, identify, mark_of
from espdl_quantize.mcp.jobs.progress import ProgressReader
from espdl_quantize.mcp.jobs.record import (
    PROGRESS,
    STDERR,
    STDOUT,
    DamagedRecordError,
    JobRecord,
    is_id,
    job_ids,
    load,
    names_folder,
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

_PATIENCE = 20.0
"""Seconds to wait for another server that writes records, which takes it milliseconds."""


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
        self._cwd = cwd
        self._program = tuple(program) or (*own_python(), "-m", "espdl_quantize")
        try:
            # One spelling: a job's command line names its folder, and is compared with it.
            state = state.resolve()
            self._folder = state / "jobs"
            self._folder.mkdir(parents=True, exist_ok=True)
            # Nobody wants the records in a repository. "x" follows no link that came with one.
            with contextlib.suppress(FileExistsError), (state / ".gitignore").open("x") as file:
                file.write("*\n")
        except (OSError, RuntimeError) as error:
            raise OutputFolderError(
                f"{state / 'jobs'} cannot be written: {getattr(error, 'strerror', None) or error}",
                "give --state-dir a folder that you can write to",
            ) from error
        self._own: dict[str, JobRecord] = {}
        """Of the jobs that this server has started: what it knows, whatever the disk says."""
        self._processes: dict[str, JobProcess] = {}
        self._readers: dict[str, ProgressReader] = {}
        self._ended: dict[str, JobRecord] = {}
        self._problems: dict[str, str] = {}
        """What went wrong in looking after a job, at the last look."""
        self._logged: dict[str, str] = {}
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
        with self._mutex, self._locked():
            if output_dir is not None:
                self.check_free(output_dir)
            self._forget()
            job_id = new_id(kind)
            folder = self._folder / job_id
            folder.mkdir(parents=True)
            options = [*arguments, "--json", "--progress-json", str(folder / PROGRESS)]
            if setting is not None:
                write_json(folder / SETTING, setting)
                options += ["--setting", str(folder / SETTING)]
            command = (*self._program, *options)
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
            self._processes[job_id] = Child(child)
            self._own[job_id] = record
            self._write(replace(record, pid=child.pid, mark=mark_of(child.pid)))
        return self.get(job_id)

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
            return describe(record, folder, progress, list(reader.recent), warnings)

    def jobs(self, limit: int, output_dir: str | None = None) -> list[Job]:
        """Return the newest jobs; one that cannot be looked at hides no other.

        Args:
            limit: how many.
            output_dir: only those that write into this folder.
        """
        with self._mutex:
            started: dict[str, float] = {}
            for job_id in self._ids():
                with contextlib.suppress(UsageError):
                    record = self._looked_at(job_id)
                    if output_dir is None or (record and record.output_dir == output_dir):
                        started[job_id] = record.started_at if record else time_of(job_id)
            newest = sorted(started, key=lambda job_id: started[job_id], reverse=True)
            return [self._described(job_id) for job_id in newest[:limit]]

    def records(self) -> list[JobRecord]:
        """Return all jobs whose record can be relied on, newest first."""
        records = []
        with self._mutex:
            for job_id in self._ids():
                # What another server forgot is gone.
                with contextlib.suppress(UsageError):
                    record = self._looked_at(job_id)
                    records += [record] if record is not None else []
        return sorted(records, key=lambda record: record.started_at, reverse=True)

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
            if record.is_live and record.cancel_at is None:
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

    def _ids(self) -> list[str]:
        try:
            on_disk = job_ids(self._folder)
        except FileNotFoundError:
            on_disk = []
        return list(dict.fromkeys((*on_disk, *self._own)))

    def _looked_at(self, job_id: str) -> JobRecord | None:
        """Return the record as it is now; None, with a note, where it cannot be looked at.

        Raises:
            UsageError: there is no such job.
        """
        try:
            record = self._refresh(job_id)
        except UsageError:
            raise
        except Exception as error:
            self._note(job_id, error)
            return None
        return record

    def _described(self, job_id: str) -> Job:
        try:
            return self.get(job_id)
        except Exception as error:
            self._note(job_id, error)
            return describe_damaged(job_id, error)

    def _note(self, job_id: str, error: Exception) -> None:
        """Keep what went wrong, to be shown with the job, and log it once."""
        is_known = isinstance(error, EspdlQuantizeError)
        text = f"{type(error).__name__}: {str(error)!a}"
        if isinstance(error, EspdlQuantizeError):
            text = error.describe(MCP)
        self._problems[job_id] = text
        if self._logged.get(job_id) != text:
            self._logged[job_id] = text
            trace = None if is_known or isinstance(error, OSError) else error
            _LOGGER.warning("job %s: %s", job_id, text, exc_info=trace)

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

    def _refresh(self, job_id: str) -> JobRecord:
        """Read a record, and write down its end where it has ended meanwhile.

        Raises:
            UsageError: there is no such job.
            DamagedRecordError: its record cannot be relied on.
        """
        # What has ended does not change any more.
        if job_id in self._ended:
            return self._ended[job_id]
        record = self._read(job_id)
        if record.is_live and record.pid is None:
            # Another server is about to write the process down, or was killed before it could.
            with self._locked():
                record = self._read(job_id)
        if record.is_live:
            process = self._process_of(record)
            if process is not None and not process.has_ended():
                return record
            record = self._end(job_id)
        if not record.is_live:
            self._ended[job_id] = record
        return record

    def _read(self, job_id: str) -> JobRecord:
        """Read a record; of a job of its own the server takes from the disk only a cancel."""
        folder = self._folder / job_id
        known = self._own.get(job_id)
        if known is None:
            return load(folder)
        try:
            written = load(folder)
        except (DamagedRecordError, UsageError) as error:
            self._problems[job_id] = f"{error.cause}; this server started the job and goes on"
            return known
        if written.cancel_at is not None and known.cancel_at is None:
            known = replace(known, state="cancelling", cancel_at=written.cancel_at)
        known = replace(known, signals=max(known.signals, written.signals))
        self._own[job_id] = known
        return known

    def _write(self, record: JobRecord) -> None:
        if record.job_id in self._own:
            self._own[record.job_id] = record
        save(self._folder / record.job_id, record)

    def _process_of(self, record: JobRecord) -> JobProcess | None:
        """Return the process of a job: a child, or one that proves that it is this job's."""
        process = self._processes.get(record.job_id)
        if process is not None:
            return process
        folder = self._folder / record.job_id
        if record.pid is None or record.mark is None or not names_folder(record, folder):
            return None
        process = identify(record.pid, record.mark, record.command)
        if process is not None:
            self._processes[record.job_id] = process
        return process

    def _end(self, job_id: str) -> JobRecord:
        """Write down what came of a job whose process has ended."""
        with self._mutex, self._locked():
            record = self._read(job_id)
            process = self._process_of(record)
            if not record.is_live or (process is not None and not process.has_ended()):
                return record
            ended = outcome(record, self._folder / job_id)
            if process is not None:
                if ended.state in ("interrupted", "lost"):
                    # What a process that did not end by itself has left of its group.
                    process.signal(signal.SIGKILL)
                code = process.close()
                if ended.exit_code is None:
                    ended = replace(ended, exit_code=code)
            self._processes.pop(job_id, None)
            self._own.pop(job_id, None)
            self._ended[job_id] = ended
            try:
                self._write(ended)
            except OSError as error:
                # A full disk, say: this server knows, the next one finds out by itself.
                self._note(job_id, error)
            return ended

    def _forget(self) -> None:
        """Remove the oldest jobs that have ended."""
        ended = [record for record in self.records() if not record.is_live]
        for record in ended[_KEPT:]:
            # The id is the folder's own name, which the record cannot choose.
            shutil.rmtree(self._folder / record.job_id, ignore_errors=True)
            for kept in (self._ended, self._readers, self._problems, self._logged):
                kept.pop(record.job_id, None)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise OutputFolderError(
                f"{self._lock.lock_file} has been held by another process for {_PATIENCE:g} s",
                "another server of this project hangs or is stopped: end it, or let it go on",
            ) from None
        try:
            yield
        finally:
            self._lock.release()


def own_python() -> tuple[str, ...]:
    """Return the words that start the Python of this server."""
    # -P keeps the working folder, which is the user's, out of the import path.
    safe = ("-P",) if sys.version_info >= (3, 11) else ()
    return (sys.executable, *safe)


def reset_interrupt() -> None:
    """Make sure that children hear Ctrl-C, which those of a background shell job ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
