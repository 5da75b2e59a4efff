"""What came of a job, by what it left on disk."""

from __future__ import annotations

import json
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.errors import EXIT_INTERRUPTED, EXIT_REFUSED
from espdl_quantize.mcp._models import ErrorInfo, Fault, Job, JobProgress, State
from espdl_quantize.mcp.jobs._record import STDERR, STDOUT, JobRecord

_TAIL = 2000
"""Characters of stderr that are shown of a job that said nothing else."""


def outcome(record: JobRecord, folder: Path, exit_code: int | None) -> JobRecord:
    """Return the record of a process that has ended.

    Args:
        record: the last one.
        folder: the job's.
        exit_code: where this process is the parent; negative for a signal.
    """
    told = _printed(folder)
    error = None if told is None else told.get("error")
    code = exit_code
    state: State
    if isinstance(error, dict):
        code = int(error.get("exit_code", 1))
        state = "interrupted" if code == EXIT_INTERRUPTED else "failed"
    elif told is not None:
        state = "finished"
    else:
        # The command prints its result last: without one it was killed, or it crashed.
        state = "lost" if record.cancel_at is None else "interrupted"
    return replace(record, state=state, exit_code=code, ended_at=time.time())


def describe(
    record: JobRecord, folder: Path, progress: JobProgress | None, recent: list[str]
) -> Job:
    """Return what a client is told of a job."""
    told = None if record.is_live else _printed(folder)
    error = None
    if record.state in ("failed", "interrupted", "lost"):
        error = _error(record, folder, told)
    return Job(
        job_id=record.job_id,
        kind=record.kind,
        state=record.state,
        command=list(record.command),
        output_dir=record.output_dir,
        pid=record.pid,
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.started_at)),
        elapsed_seconds=round((record.ended_at or time.time()) - record.started_at, 3),
        exit_code=record.exit_code,
        progress=progress if record.is_live else None,
        recent=recent,
        result=told if record.state == "finished" else None,
        error=error,
        next=_next(record),
    )


def _printed(folder: Path) -> dict[str, Any] | None:
    """Return the object that the command printed; None where it is not whole.

    A user's module may print as well, as it is left, say: the object begins a line.
    """
    try:
        text = (folder / STDOUT).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for begin in re.finditer(r"^\{", text, flags=re.MULTILINE):
        try:
            told, _ = json.JSONDecoder().raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict):
            return told
    return None


def _error(record: JobRecord, folder: Path, told: dict[str, Any] | None) -> ErrorInfo:
    error = (told or {}).get("error")
    if isinstance(error, dict):
        faults = [Fault.model_validate(one) for one in (told or {}).get("faults", [])]
        return ErrorInfo(
            message=str(error.get("message", "")),
            mend=str(error.get("mend", "")),
            exit_code=int(error.get("exit_code", 1)),
            faults=faults,
        )
    how = "ended without a result"
    if record.exit_code is not None and record.exit_code < 0:
        how = f"was killed by {_signal_name(-record.exit_code)}"
    elif record.exit_code is not None:
        how += f", with exit code {record.exit_code}"
    tail = _tail(folder / STDERR)
    return ErrorInfo(
        message=f"the process {record.pid} {how}" + (f"; it said last: {tail}" if tail else ""),
        mend="finished iterations are kept: the same call goes on from there",
        exit_code=_shell_code(record),
    )


def _shell_code(record: JobRecord) -> int:
    """Return the exit code that a shell would tell."""
    if record.cancel_at is not None:
        return EXIT_INTERRUPTED
    code = record.exit_code or EXIT_REFUSED
    return 128 - code if code < 0 else code


def _next(record: JobRecord) -> str:
    if record.state == "cancelling":
        return "it is ending; call status until it has"
    if record.is_live:
        return "call status with this job_id; wait_seconds waits for its end"
    if record.state == "finished":
        return {
            "check_contract": "run_iteration or tune",
            "run_iteration": "next_step says what to run next; artifacts has the errors",
            "tune": "report has the final report; artifacts has the errors",
        }[record.kind]
    if record.state == "failed":
        return "mend what the error says, then call the tool again"
    return "call the tool again with the same arguments: it goes on where it stopped"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(path: Path) -> str:
    try:
        content = path.read_bytes()[-_TAIL:]
    except OSError:
        return ""
    return content.decode("utf-8", errors="replace").strip()
