"""What is kept of a job on disk, and how much of it is believed.

The folder lies in the user's project, and may have come with it from somewhere else: every field is
checked as it is read, and none gives leave to signal a process, to delete or to write a path.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import secrets
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass

from espdl_quantize.core import OutputFolderError, UsageError, load_json, write_json
from espdl_quantize.mcp._models import LIVE, Kind, RecordedState

_NAMES: dict[Kind, str] = {
    "check_contract": "check",
    "run_iteration": "run",
    "tune": "tune",
    "final_score": "final",
    "verify": "verify",
}
_NAME = re.compile(r"(check|run|tune|final|verify)-([0-9]{8}-[0-9]{6})-[0-9a-f]{6}")
RECORD = "job.json"
STDOUT, STDERR, PROGRESS = "stdout.json", "stderr.log", "progress.jsonl"
_LARGEST = 1 << 20
"""Bytes of a record; its command line is nearly all of it."""
_TOLD = 3
"""How many faults of a record are named."""

_Time = Annotated[float, Field(ge=0, le=253402300799, allow_inf_nan=False)]
"""Seconds since the epoch, up to the year 9999."""


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class JobRecord:
    """A job as its record tells it; a value of another type or range raises.

    Attributes:
        job_id: also the name of its folder.
        kind: the tool that started it.
        command: the whole command line.
        output_dir: the output folder that it writes into, if it does.
        started_at: seconds since the epoch.
        pid: of the process, which leads a group of its own; None until it has one.
        mark: tells the process from a later one of the same number.
        state: the last that was seen.
        cancel_at: when it was asked to end; None while nobody did.
        signals: how many were sent.
        ended_at: when its end was seen.
        is_light: it executes no contract, and so waits for none that does.
        exit_code: where its parent lived to see it; negative for a signal.
        version: of this form.
    """

    job_id: Annotated[str, Field(max_length=64)]
    kind: Kind
    # JSON knows no tuples.
    command: Annotated[tuple[str, ...], Strict(False)]
    output_dir: str | None
    started_at: _Time
    # 0 and negative numbers mean groups to the system, 1 is not ours.
    pid: Annotated[int, Field(ge=2, lt=1 << 31)] | None = None
    mark: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    state: RecordedState = "running"
    cancel_at: _Time | None = None
    signals: Annotated[int, Field(ge=0, le=3)] = 0
    ended_at: _Time | None = None
    is_light: bool = False
    exit_code: Annotated[int, Field(ge=-(1 << 31), lt=1 << 32)] | None = None
    version: Literal[1] = 1

    @property
    def is_live(self) -> bool:
        """Whether it had not ended when it was looked at last."""
        return self.state in LIVE


_FIELDS = {field.name for field in fields(JobRecord)}


class DamagedRecordError(OutputFolderError):
    """A record cannot be relied on; nothing is done on the strength of it."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(
            f"the record of the job {folder.name} is damaged: {what}",
            f"no process was signalled for it. Where one of this job still runs, end it by hand; "
            f"then delete {folder}",
        )


def new_id(kind: Kind) -> str:
    """Return an id that sorts by time and that nobody else has."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"{_NAMES[kind]}-{stamp}-{secrets.token_hex(3)}"


def is_id(text: str) -> bool:
    """Tell whether a text has the form of an id, and so is no path."""
    return _NAME.fullmatch(text) is not None


def kind_of(job_id: str) -> Kind:
    """Return the kind that an id tells."""
    prefix = job_id.partition("-")[0]
    return next(kind for kind, name in _NAMES.items() if name == prefix)


def time_of(job_id: str) -> float:
    """Return the start that an id tells, in seconds since the epoch; 0 where it is no time."""
    match = _NAME.fullmatch(job_id)
    try:
        assert match is not None
        return max(0.0, calendar.timegm(time.strptime(match[2], "%Y%m%d-%H%M%S")))
    except (ValueError, OverflowError):
        return 0.0


def save(folder: Path, record: JobRecord) -> None:
    """Write the record; a reader sees the old one or the new one."""
    write_json(folder / RECORD, asdict(record))


def job_ids(jobs: Path) -> list[str]:
    """Return the ids of all jobs that have a record of any kind in a folder."""
    with os.scandir(jobs) as entries:
        return [
            entry.name for entry in entries if is_id(entry.name) and _has_record(Path(entry.path))
        ]


def load(folder: Path) -> JobRecord:
    """Read the record of a job's folder.

    Raises:
        UsageError: there is no such job.
        DamagedRecordError: the record is not what this version writes for this folder.
    """
    if not _has_record(folder):
        raise UsageError(f"there is no job {folder.name!r}", "call status for the list of jobs")
    if folder.is_symlink():
        raise DamagedRecordError(folder, f"{folder} is a link, which is not followed")
    path = folder / RECORD
    try:
        value = load_json(path, _LARGEST, follow=False)
    except OSError as error:
        what = f"{RECORD} cannot be read: {error.strerror or error}"
        raise DamagedRecordError(folder, what) from error
    except UnicodeDecodeError as error:
        raise DamagedRecordError(folder, f"{RECORD} is not UTF-8 ({error.reason})") from error
    except ValueError as error:
        raise DamagedRecordError(folder, f"{RECORD} is not JSON: {error}") from error
    if not isinstance(value, dict):
        what = f"{RECORD} holds a {type(value).__name__}, expected a JSON object"
        raise DamagedRecordError(folder, what)
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"{RECORD} holds half a surrogate pair, which is no Unicode text"
        raise DamagedRecordError(folder, what) from error
    try:
        record = JobRecord(**value)
    except ValidationError as error:
        raise DamagedRecordError(folder, _faults(error)) from error
    if record.job_id != folder.name:
        what = f"job_id is {_shown(record.job_id)}, expected the name of the folder"
        raise DamagedRecordError(folder, what)
    if record.kind != kind_of(folder.name):
        what = f"kind is {_shown(record.kind)}, expected {kind_of(folder.name)} by the job_id"
        raise DamagedRecordError(folder, what)
    return record


def names_folder(record: JobRecord, folder: Path) -> bool:
    """Tell whether the command of a record is one that writes its progress into this folder."""
    options = ("--json", "--progress-json", str(folder / PROGRESS))
    command = record.command
    return any(command[i : i + 3] == options for i in range(len(command) - 2))


def _has_record(folder: Path) -> bool:
    try:
        os.lstat(folder / RECORD)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # It is there, whatever it is.
        return True
    return True


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False)
    texts = [_fault(fault) for fault in faults[:_TOLD]]
    more = len(faults) - _TOLD
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _fault(fault: Any) -> str:
    name = ".".join(
        str(place) for place in fault["loc"] if isinstance(place, int) or place in _FIELDS
    )
    if fault["type"] in ("missing", "missing_argument"):
        return f"{name} is missing"
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown field {_shown(fault['loc'][-1])}; another version wrote it"
    return f"{name} is {_shown(fault['input'])}: {fault['msg']}"


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


assert set(get_args(Kind)) == set(_NAMES)
