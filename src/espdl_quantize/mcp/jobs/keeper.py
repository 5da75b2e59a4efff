"""Keeps the records of jobs: reads them, notices ends, writes them down.

It starts nothing and signals only what a process that ended by no will of its own has left.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError, UsageError
from espdl_quantize.mcp._spelling import MCP
from espdl_quantize.mcp.jobs.outcome import outcome
from espdl_quantize.mcp.jobs.process import JobProcess, identify, mark_of
from espdl_quantize.mcp.jobs.progress import ProgressReader
from espdl_quantize.mcp.jobs.record import (
    DamagedRecordError,
    JobRecord,
    job_ids,
    load,
    names_folder,
    save,
)

_LOGGER = logging.getLogger(__name__)

_PATIENCE = 20.0
"""Seconds to wait for another server that writes records, which takes it milliseconds."""


class Keeper:
    """The records of one state folder, which several servers may share.

    Args:
        state: made if it is not there.

    Raises:
        OutputFolderError: the folder cannot be written.
    """

    def __init__(self, state: Path) -> None:
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
        if record.state == "queued":
            return self._refresh_queued(record)
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

    def _refresh_queued(self, record: JobRecord) -> JobRecord:
        """Return a job that waits; one whose server has gone will never start."""
        if record.job_id in self._own:
            return record
        if record.pid is not None and mark_of(record.pid) == record.mark:
            return record
        with self._locked():
            record = self._read(record.job_id)
            if record.state == "queued":
                record = replace(record, state="lost", pid=None, mark=None, ended_at=time.time())
                self._finish(record)
        return record

    def _finish(self, record: JobRecord) -> None:
        """Write down the end of a job."""
        self._processes.pop(record.job_id, None)
        self._own.pop(record.job_id, None)
        self._ended[record.job_id] = record
        try:
            self._write(record)
        except OSError as error:
            # A full disk, say: this server knows, the next one finds out by itself.
            self._note(record.job_id, error)

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
        if known.state == "queued" and written.cancel_at is not None:
            # Another server has cancelled it.
            self._own.pop(job_id)
            return written
        if written.cancel_at is not None and known.cancel_at is None:
            known = replace(known, state="cancelling", cancel_at=written.cancel_at)
        known = replace(known, signals=max(known.signals, written.signals))
        self._own[job_id] = known
        return known

    def _write(self, record: JobRecord) -> None:
        if record.job_id in self._own:
            self._own[record.job_id] = record
            # Whoever deletes the folder under a running job can still cancel it.
            (self._folder / record.job_id).mkdir(parents=True, exist_ok=True)
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
            self._finish(ended)
            return ended

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
