"""What a folder of jobs may hold, whoever wrote it, and what the store makes of it."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import OutputFolderError
from espdl_quantize.mcp._models import Job
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.jobs import keeper as job_keeper
from espdl_quantize.mcp.jobs.progress import ProgressReader
from espdl_quantize.mcp.jobs.record import load
from tests.mcp.jobs.forge import JOB, forge, wait_for


def rewrite(**fields: Any) -> Callable[[Path], object]:
    return lambda jobs: forge(jobs, **fields)


def leave_out(field: str) -> Callable[[Path], object]:
    def write(jobs: Path) -> None:
        path = forge(jobs) / "job.json"
        record = json.loads(path.read_text())
        del record[field]
        path.write_text(json.dumps(record))

    return write


def content(value: bytes) -> Callable[[Path], object]:
    return lambda jobs: (forge(jobs) / "job.json").write_bytes(value)


def in_its_place(make: Callable[[Path], Any]) -> Callable[[Path], object]:
    def write(jobs: Path) -> None:
        path = forge(jobs) / "job.json"
        path.unlink()
        make(path)

    return write


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"job_id": "')
        file.truncate(1 << 30)


def linked_folder(jobs: Path) -> None:
    real = forge(jobs.parent / "elsewhere")
    jobs.mkdir(parents=True, exist_ok=True)
    (jobs / JOB).symlink_to(real)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pid as a string": (rewrite(pid="4242"), "pid is '4242'"),
    "pid too large": (rewrite(pid=2**70), "pid is 1180591620717411303424"),
    "negative pid": (rewrite(pid=-4242), "pid is -4242"),
    "pid 0": (rewrite(pid=0), "pid is 0"),
    "pid 1": (rewrite(pid=1), "pid is 1"),
    "boolean pid": (rewrite(pid=True), "pid is True"),
    "pid as a list": (rewrite(pid=[4242]), r"pid is \[4242\]"),
    "pid as a float": (rewrite(pid=4242.0), r"pid is 4242\.0"),
    "NaN": (rewrite(started_at=float("nan")), "started_at is nan"),
    "infinity": (rewrite(cancel_at=float("inf")), "cancel_at is inf"),
    "a year that no calendar has": (rewrite(started_at=1e18), r"started_at is 1e\+18"),
    "more signals than there are": (rewrite(signals=99), "signals is 99"),
    "negative signals": (rewrite(signals=-1), "signals is -1"),
    "a state that is none": (rewrite(state="damaged"), "state is 'damaged'"),
    "state as an object": (rewrite(state={}), "state is {}"),
    "a kind of another job": (rewrite(kind="run_iteration"), "kind is 'run_iteration'"),
    "command as a text": (rewrite(command="sleep 600"), "command is 'sleep 600'"),
    "command of numbers": (rewrite(command=[1]), r"command\.0 is 1"),
    "no text": (rewrite(output_dir="\ud800"), "surrogate"),
    "another version": (rewrite(version=2), "version is 2"),
    "a field of another version": (rewrite(nonce="x"), "unknown field 'nonce'"),
    "the id of another": (rewrite(job_id="tune-20200101-000000-fedcba"), "job_id is 'tune"),
    "an id that is a path": (rewrite(job_id="../../x"), r"job_id is '\.\./"),
    "a missing field": (leave_out("command"), "command is missing"),
    "a list": (content(b"[]"), "holds a list"),
    "nothing": (content(b""), "is not JSON"),
    "half": (content(b'{"job_id": '), "is not JSON"),
    "not UTF-8": (content(b'{"job_id": "\xff"}'), "is not UTF-8"),
    "nested deeply": (content(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "nested more than 64"),
    "a long number": (content(b'{"pid": ' + b"9" * 5000 + b"}"), "is not JSON"),
    "1 GB": (in_its_place(large), "more than 1 MiB"),
    "a link": (in_its_place(lambda path: path.symlink_to("/etc/passwd")), "is a link"),
    "a link to nothing": (in_its_place(lambda path: path.symlink_to("/nowhere")), "is a link"),
    "a pipe": (in_its_place(lambda path: os.mkfifo(path)), "no regular file"),
    "a folder": (in_its_place(lambda path: path.mkdir()), "no regular file"),
    "a folder that is a link": (linked_folder, "is a link"),
}


def store_in(tmp_path: Path, code: str = "print('{}')") -> JobStore:
    return JobStore(tmp_path / "state", tmp_path, (sys.executable, "-c", code))


def ended(store: JobStore, job: Job) -> Job:
    wait_for(lambda: store.get(job.job_id).state not in ("running", "cancelling"))
    return store.get(job.job_id)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record_is_shown_as_such_and_hides_no_other(tmp_path: Path, name: str) -> None:
    damage, told = DAMAGES[name]
    store = store_in(tmp_path)
    good = ended(store, store.start("check_contract", []))
    damage(store._folder)
    other = store_in(tmp_path)
    before = time.monotonic()
    other.tend()
    states = {job.job_id: job.state for job in other.jobs(20)}
    assert states == {good.job_id: "finished", JOB: "damaged"}
    shown = other.get(JOB)
    assert time.monotonic() - before < 5
    assert shown.kind == "tune"
    assert shown.started_at == "2020-01-01T00:00:00Z"
    assert shown.error is not None
    assert JOB in shown.error.message
    with pytest.raises(OutputFolderError, match=told):
        raise OutputFolderError(shown.error.message)
    assert str(store._folder / JOB) in shown.error.hint
    with pytest.raises(OutputFolderError, match=told):
        other.cancel(JOB)
    # It can be sent.
    json.loads(shown.model_dump_json())
    # Jobs start and end beside it, also in an output folder that it may claim.
    assert ended(other, other.start("tune", [], tmp_path / "outputs")).state == "finished"


def test_a_record_of_a_job_that_runs_is_damaged_and_written_anew(tmp_path: Path) -> None:
    store = store_in(tmp_path, "import time; time.sleep(0.5); print('{}')")
    job = store.start("tune", [])
    path = store._folder / job.job_id / "job.json"
    path.write_text("{")
    running = store.get(job.job_id)
    assert running.state == "running"
    assert "is not JSON" in running.warnings[0]
    assert ended(store, job).state == "finished"
    assert load(path.parent).state == "finished"


def test_a_fault_with_one_job_stops_nothing_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the program itself, in the handling of one job."""
    store = store_in(tmp_path)
    forge(store._folder, "tune-20200101-000000-000000", pid=4242, mark="x")
    job = store.start("check_contract", [])
    real = load

    def load_but_one(folder: Path) -> Any:
        if folder.name.endswith("000000"):
            raise RuntimeError("what nobody thought of")
        return real(folder)

    monkeypatch.setattr(job_keeper, "load", load_but_one)
    other = store_in(tmp_path)
    other.tend()
    ended(store, job)
    shown = {one.job_id: one for one in other.jobs(20)}
    assert shown[job.job_id].state == "finished"
    bad = shown["tune-20200101-000000-000000"]
    assert bad.state == "damaged"
    assert bad.error is not None and "what nobody thought of" in bad.error.message


FORGED_OUTPUT = {
    "exit code as a text": b'{"error": {"exit_code": "abc"}}',
    "exit code too large": b'{"error": {"exit_code": %d}}' % 2**70,
    "message as a list": b'{"error": {"message": [1]}}',
    "faults of no form": b'{"error": {}, "faults": [{"key": 1}]}',
    "faults as a number": b'{"error": {}, "faults": 5}',
    "nested deeply": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
    "bytes": b"\xff\xfe{",
}


@pytest.mark.parametrize("name", FORGED_OUTPUT)
def test_forged_output_is_no_result(tmp_path: Path, name: str) -> None:
    store = store_in(tmp_path)
    folder = forge(store._folder, pid=4242, mark="x")
    (folder / "stdout.json").write_bytes(FORGED_OUTPUT[name])
    store.tend()
    job = store.get(JOB)
    assert job.state == "lost"
    json.loads(job.model_dump_json())


def test_what_was_printed_can_always_be_sent_on(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    folder = forge(store._folder, pid=4242, mark="x")
    (folder / "stdout.json").write_bytes(b'{"a": NaN, "b": -Infinity, "\\ud800": "\\udfff"}')
    job = store.get(JOB)
    assert job.state == "finished"
    assert job.result == {"a": None, "b": None, "?": "?"}
    json.loads(job.model_dump_json())


@pytest.mark.parametrize("make", ["link", "pipe", "folder"])
def test_files_of_a_job_that_lead_elsewhere_are_not_read(tmp_path: Path, make: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"event": "notice", "text": "secret"}\n')
    store = store_in(tmp_path)
    folder = forge(store._folder, pid=4242, mark="x", state="lost")
    for name in ("stdout.json", "stderr.log", "progress.jsonl"):
        if make == "link":
            (folder / name).symlink_to(secret)
        elif make == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).mkdir()
    store.tend()
    job = store.get(JOB)
    assert job.state == "lost"
    assert "secret" not in job.model_dump_json()


def test_large_files_of_a_job_are_read_in_part(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    folder = forge(store._folder, pid=4242, mark="x")
    for name in ("stdout.json", "stderr.log", "progress.jsonl"):
        with (folder / name).open("wb") as file:
            file.truncate(1 << 33)
    with (folder / "progress.jsonl").open("ab") as file:
        file.write(b'\n{"event": "notice", "text": "the last"}\n')
    before = time.monotonic()
    job = store.get(JOB)
    assert time.monotonic() - before < 10
    assert job.state == "lost"
    assert job.recent == ["note: the last"]


FORGED_LINES = [
    b'{"event": "stage", "depth": "deep"}',
    b'{"event": "stage", "depth": -5, "status": "begun", "stage": "fine"}',
    b'{"event": "stage", "depth": 1e999, "status": "begun"}',
    b'{"event": "at", "fraction": "half"}',
    b'{"event": "at", "fraction": 1%s}' % (b"0" * 400),
    b'{"event": "at", "fraction": NaN}',
    b'{"event": "plan", "lines": 5}',
    b'{"event": "plan"}',
    b'{"event": "iteration_started", "iteration": "one"}',
    b'{"event": "iteration_started", "iteration": 1, "seconds_left": "soon"}',
    b'{"event": "iteration_started", "iteration": 1, "best_value": [1]}',
    b'{"event": "iteration_ended", "value": "high"}',
    b'{"event": "iteration_ended", "value": 1%s}' % (b"0" * 400),
    b'{"event": "iteration_ended", "value": 1, "is_best": true, "iteration": "x"}',
    b'{"event": ["stage"]}',
    b'{"event": "notice", "text": "\\ud800"}',
    b'{"event": "notice", "text": "%s"}' % (b"x" * 100_000),
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b"\xff\xfe",
    b"9" * 5000,
]


@pytest.mark.parametrize("number", range(len(FORGED_LINES)))
def test_a_forged_line_of_progress_takes_none_of_the_others_along(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / "progress.jsonl"
    good = b'{"event": "notice", "text": "good"}'
    path.write_bytes(b"\n".join((good, FORGED_LINES[number], good, b"")))
    reader = ProgressReader(path)
    told = reader.read()
    assert told is not None
    assert reader.recent[0] == reader.recent[-1] == "note: good"
    assert len("".join(reader.recent)) < 10_000
    json.loads(told.model_dump_json())


def test_a_server_that_holds_the_records_for_ever_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_keeper, "_PATIENCE", 0.1)
    store, other = store_in(tmp_path), store_in(tmp_path)
    with store._locked(), pytest.raises(OutputFolderError, match="held by another process"):
        other.start("tune", [])
