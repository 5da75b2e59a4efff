"""What came of a job, by what it left on disk; all of it is only shown."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from espdl_quantize.core import (
    EXIT_INTERRUPTED,
    EXIT_OUTPUT_FOLDER,
    EXIT_REFUSED,
    EspdlQuantizeError,
    hint_of,
)
from espdl_quantize.mcp._models import ErrorInfo, Job, JobProgress, Kind, RecordedState
from espdl_quantize.mcp._spelling import MCP
from espdl_quantize.mcp.jobs._read import plain, read_end
from espdl_quantize.mcp.jobs.record import STDERR, STDOUT, JobRecord, kind_of, time_of

_TAIL = 2000
"""Characters of stderr that are shown of a job that said nothing else."""
_KILLED = (
    ". SIGKILL is often the system's answer to too little memory: where it comes again, use fewer "
    "or smaller calibration batches"
)
_LARGEST = 64 << 20
"""Bytes of what a command printed that are read; the result comes last."""


def outcome(record: JobRecord, folder: Path) -> JobRecord:
    """Return the record of a process that has ended; its exit code only where it printed one."""
    printed = _printed(folder)
    code = None
    state: RecordedState
    if printed is None:
        # The command prints its result last: without one it was killed, or it crashed.
        state = "lost" if record.cancel_at is None else "interrupted"
    elif printed.error is not None:
        code = printed.error.exit_code
        state = "interrupted" if code == EXIT_INTERRUPTED else "failed"
    else:
        state = "finished"
    return replace(record, state=state, exit_code=code, ended_at=time.time())


def describe(
    record: JobRecord,
    folder: Path,
    progress: JobProgress | None,
    recent: list[str],
    warnings: Sequence[str] = (),
) -> Job:
    """Return what a client is told of a job."""
    printed = None if record.is_live else _printed(folder)
    error = None
    if record.state in ("failed", "interrupted", "lost"):
        error = _error(record, folder, printed)
    return Job(
        job_id=record.job_id,
        kind=record.kind,
        state=record.state,
        command=list(record.command),
        output_dir=record.output_dir,
        pid=record.pid,
        started_at=_iso(record.started_at),
        elapsed_seconds=round((record.ended_at or time.time()) - record.started_at, 3),
        exit_code=record.exit_code if error is None else error.exit_code,
        progress=progress if record.is_live else None,
        recent=recent,
        result=printed.result if printed is not None and record.state == "finished" else None,
        error=error,
        warnings=list(warnings),
        next=_next(record),
        untrusted=["result", "recent", "progress", "error"],
    )


def with_repetitions(job: Job, crashes: int) -> Job:
    """Return a job that was lost, with another hint where the same has crashed before.

    Args:
        job: as it is described.
        crashes: how often, this time counted.
    """
    if job.error is None or crashes < 2:
        return job
    hint = (
        f"the same call has crashed {crashes} times and will again. Change something: another "
        "setting (leave out the pass that ran), fewer or smaller calibration batches, "
        "options.engine: reference; or tell the user what error.message says"
    )
    error = job.error.model_copy(update={"hint": hint})
    return job.model_copy(update={"error": error, "next": "do what error.hint says"})


def describe_damaged(job_id: str, error: Exception) -> Job:
    """Return what a client is told of a job whose record cannot be relied on."""
    message = f"{type(error).__name__}: {str(error)!a}"
    hint = "call status again; the server's stderr says more"
    if isinstance(error, EspdlQuantizeError):
        message, hint = error.cause, MCP.spell(error.hint)
    return Job(
        job_id=job_id,
        kind=kind_of(job_id),
        state="damaged",
        command=[],
        started_at=_iso(time_of(job_id)),
        elapsed_seconds=0.0,
        error=ErrorInfo(message=message, hint=hint, exit_code=EXIT_OUTPUT_FOLDER),
        next="do what error.hint says; other jobs are not affected",
    )


@dataclass(frozen=True)
class _Printed:
    """The object that a command printed: its result, and its error where it had one."""

    result: dict[str, Any]
    error: ErrorInfo | None


def _printed(folder: Path) -> _Printed | None:
    """Return the object that the command printed; None where it is not whole, or of no such form.

    A user's module may print as well, as it is left, say: the object begins a line.
    """
    content = read_end(folder / STDOUT, _LARGEST)
    text = (content or b"").decode("utf-8", errors="replace")
    for begin in re.finditer(r"^\{", text, flags=re.MULTILINE):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, begin.start())
            value = plain(value)
            if isinstance(value, dict):
                _respell(value)
                return _Printed(value, _printed_error(value))
        except (ValueError, RecursionError):
            continue
    return None


def _respell(value: dict[str, Any]) -> None:
    """Have the hints of findings speak to a client: the command speaks to a shell."""
    findings = value.get("findings")
    for finding in findings if isinstance(findings, list) else ():
        if isinstance(finding, dict) and "hint_parts" in finding:
            finding["hint"] = MCP.spell(hint_of(finding))
            del finding["hint_parts"]


def _printed_error(value: dict[str, Any]) -> ErrorInfo | None:
    error = value.get("error")
    if not isinstance(error, dict):
        return None
    _respell(error)
    form = {"message": "", "hint": "", "exit_code": 1, **error, "faults": value.get("faults", [])}
    if isinstance(form["faults"], list) and form["faults"]:
        # Each has an entry of its own.
        count = len(form["faults"])
        form["message"] = f"the contract has {count} fault{'s' if count > 1 else ''}, see faults"
    # Of check, which prints them beside the error; a run has its faults within.
    findings = value.get("findings") or error.get("findings") or []
    form["findings"] = findings if isinstance(findings, list) else []
    if "hint_parts" in error and isinstance(form["hint"], str):
        # The command speaks to a shell.
        form["hint"] = MCP.spell(hint_of(error))
    form["hint"] = form["hint"] or "fix what the message says, then call the tool again"
    info = ErrorInfo.model_validate(form, strict=True)
    if not 0 < info.exit_code < 256:
        raise ValueError(f"no exit code: {info.exit_code}")
    return info


def _error(record: JobRecord, folder: Path, printed: _Printed | None) -> ErrorInfo:
    if printed is not None and printed.error is not None:
        return printed.error
    if record.pid is None and record.cancel_at is None:
        return ErrorInfo(
            message="it never started: the server in whose queue it was has ended",
            hint="call the tool again with the same arguments",
            exit_code=EXIT_REFUSED,
        )
    if record.pid is None:
        return ErrorInfo(
            message="it was cancelled before it started",
            hint="call the tool again where it is wanted after all",
            exit_code=EXIT_INTERRUPTED,
        )
    how = "ended without a result"
    if record.exit_code is not None and record.exit_code < 0:
        how = f"was killed by {_signal_name(-record.exit_code)}"
    elif record.exit_code is not None:
        how += f", with exit code {record.exit_code}"
    tail = (read_end(folder / STDERR, _TAIL) or b"").decode("utf-8", errors="replace").strip()
    return ErrorInfo(
        message=f"the process {record.pid} {how}" + (f"; it said last: {tail}" if tail else ""),
        hint="finished iterations are kept: the same call goes on from there"
        + ("" if record.exit_code != -signal.SIGKILL or record.cancel_at else _KILLED),
        exit_code=_shell_code(record),
    )


def _shell_code(record: JobRecord) -> int:
    """Return the exit code that a shell would tell."""
    if record.cancel_at is not None:
        return EXIT_INTERRUPTED
    code = record.exit_code or EXIT_REFUSED
    return 128 - code if code < 0 else code


def _next(record: JobRecord) -> str:
    if record.state == "queued":
        return "it starts as soon as a place is free; call status with this job_id and wait_seconds"
    if record.state == "cancelling":
        return "it is ending; call status until it has"
    if record.is_live:
        return "call status with this job_id; wait_seconds waits for its end"
    if record.state == "finished":
        return _NEXT[record.kind]
    if record.state == "failed":
        return "fix what the error says, then call the tool again"
    return "call the tool again with the same arguments: it goes on where it stopped"


_NEXT: dict[Kind, str] = {
    "check_contract": "if the float score is what the user expects: run_iteration or tune",
    "run_iteration": "next_step says what to run next; worst_ops has the errors",
    "tune": "report has the final report; worst_ops has the errors",
    "final_score": "finalize puts it into the report",
    "verify": "tell the user; deploy writes a project for the board",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
