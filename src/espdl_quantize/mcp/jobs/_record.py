"""What is kept of a job on disk."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from espdl_quantize.errors import OutputFolderError, UsageError
from espdl_quantize.jsonio import read_json, write_json
from espdl_quantize.mcp._models import LIVE, Kind, State

_NAME = re.compile(r"(?:check|run|tune)-[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
RECORD, SETTING = "job.json", "setting.json"
STDOUT, STDERR, PROGRESS = "stdout.json", "stderr.log", "progress.jsonl"


@dataclass(frozen=True)
class JobRecord:
    """A job as its record tells it.

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
        exit_code: where its parent lived to see it; negative for a signal.
    """

    job_id: str
    kind: Kind
    command: tuple[str, ...]
    output_dir: str | None
    started_at: float
    pid: int | None = None
    mark: str | None = None
    state: State = "running"
    cancel_at: float | None = None
    signals: int = 0
    ended_at: float | None = None
    exit_code: int | None = None

    @property
    def is_live(self) -> bool:
        """Whether it had not ended when it was looked at last."""
        return self.state in LIVE


def new_id(kind: Kind) -> str:
    """Return an id that sorts by time and that nobody else has."""
    name = {"check_contract": "check", "run_iteration": "run", "tune": "tune"}[kind]
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def is_id(text: str) -> bool:
    """Tell whether a text has the form of an id, and so is no path."""
    return _NAME.fullmatch(text) is not None


def save(folder: Path, record: JobRecord) -> None:
    """Write the record; a reader sees the old one or the new one."""
    write_json(folder / RECORD, asdict(record))


def load(folder: Path) -> JobRecord:
    """Read the record of a job's folder.

    Raises:
        UsageError: there is no such job.
        OutputFolderError: the record cannot be read.
    """
    if not (folder / RECORD).is_file():
        raise UsageError(f"there is no job {folder.name!r}", "call status for the list of jobs")
    told: dict[str, Any] = read_json(folder / RECORD)
    try:
        record = JobRecord(**{**told, "command": tuple(told["command"])})
    except (TypeError, KeyError) as error:
        raise OutputFolderError(f"{folder / RECORD} is no record of a job: {error}") from error
    if record.state not in get_args(State) or record.kind not in get_args(Kind):
        raise OutputFolderError(f"{folder / RECORD} has the state {record.state!r}")
    return record
