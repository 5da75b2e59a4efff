"""Records and files of jobs that no server wrote, and processes that no job started."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JOB = "tune-20200101-000000-abcdef"
SLEEP = ("sleep", "600")


def forge(jobs: Path, name: str = JOB, **fields: Any) -> Path:
    """Write a record of today's form; its fields are the ones given."""
    folder = jobs / name
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "job_id": name,
        "kind": "tune",
        "command": [sys.executable, "-c", "pass"],
        "output_dir": None,
        "started_at": 1577836800.0,
        "pid": None,
        "mark": None,
        "state": "running",
        "cancel_at": None,
        "signals": 0,
        "ended_at": None,
        "exit_code": None,
    }
    (folder / "job.json").write_text(json.dumps({**record, **fields}))
    return folder


@contextmanager
def victim(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which nobody of these tests may end."""
    process = subprocess.Popen(command or SLEEP, start_new_session=True, **options)
    try:
        wait_for(lambda: os.getpgid(process.pid) == process.pid)
        yield process
    finally:
        process.kill()
        process.wait()


def survives(process: subprocess.Popen[bytes], seconds: float = 0.2) -> bool:
    """Tell whether a process was left alone, also by what takes a moment to arrive."""
    time.sleep(seconds)
    return process.poll() is None


def wait_for(holds: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def signals_due() -> list[dict[str, Any]]:
    """Fields of records that ask for every signal, or for the sweep of a group."""
    return [
        {"state": "running"},
        {"state": "running", "cancel_at": 1577836800.0},
        {"state": "cancelling", "cancel_at": 1577836800.0},
        {"state": "cancelling", "cancel_at": time.time(), "signals": 2},
    ]
