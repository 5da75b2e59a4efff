"""No process is signalled, no folder deleted, on the word of a file in the project."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from espdl_quantize.core import OutputFolderError, UsageError
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.jobs import process as job_process
from espdl_quantize.mcp.jobs import store as job_store
from espdl_quantize.mcp.jobs.process import Verified, identify, mark_of
from espdl_quantize.mcp.jobs.record import load
from tests.mcp.client import GUARD
from tests.mcp.jobs.forge import JOB, SLEEP, forge, signals_due, survives, victim, wait_for

SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., JobStore]]:
    """Stores of one folder; what their jobs left running is killed in the end."""
    stores: list[JobStore] = []

    def make(code: str = SLEEPS) -> JobStore:
        store = JobStore(tmp_path / "state", tmp_path, (sys.executable, "-c", code))
        stores.append(store)
        return store

    yield make
    for store in stores:
        for process in store._processes.values():
            process.signal(signal.SIGKILL)
            process.close()


def exercise(store: JobStore, job_id: str = JOB) -> None:
    """Do all that may signal: looking, cancelling, pressing, and forgetting old jobs."""
    store.tend()
    store.jobs(20)
    try:
        store.cancel(job_id)
    except OutputFolderError:
        assert store.get(job_id).state == "damaged"
    for _ in range(3):
        store.tend()
    store.start("check_contract", [])
    store.tend()


@pytest.mark.parametrize("case", range(4))
def test_a_foreign_process_survives_a_record_with_its_number(
    tmp_path: Path, start: Callable[..., JobStore], case: int
) -> None:
    with victim() as process:
        real = mark_of(process.pid)
        for number, mark in enumerate((None, "x", real)):
            forge(
                tmp_path / "state/jobs",
                f"tune-20200101-000000-00000{number}",
                pid=process.pid,
                mark=mark,
                **signals_due()[case],
            )
        store = start()
        for number in range(3):
            exercise(store, f"tune-20200101-000000-00000{number}")
        assert survives(process)
        states = {job.job_id[-1]: job.state for job in store.jobs(20)}
        assert {states[str(number)] for number in range(3)} <= {"lost", "interrupted"}


def test_its_own_command_line_is_no_proof_either(
    tmp_path: Path, start: Callable[..., JobStore]
) -> None:
    """The number, the mark and the command line are all true; it is no job of this folder."""
    with victim() as process:
        forge(
            tmp_path / "state/jobs",
            command=list(SLEEP),
            pid=process.pid,
            mark=mark_of(process.pid),
            state="cancelling",
            cancel_at=1577836800.0,
        )
        exercise(start())
        assert survives(process)


def test_a_process_that_belongs_to_another_folder_of_jobs_is_left_alone(
    tmp_path: Path, start: Callable[..., JobStore]
) -> None:
    other = JobStore(tmp_path / "elsewhere", tmp_path, (sys.executable, "-c", SLEEPS))
    job = other.start("tune", [])
    record = json.loads((other._folder / job.job_id / "job.json").read_text())
    forge(
        tmp_path / "state/jobs",
        job.job_id,
        **{key: value for key, value in record.items() if key != "job_id"},
    )
    exercise(start(), job.job_id)
    time.sleep(0.2)
    assert other.get(job.job_id).state == "running"
    other._processes[job.job_id].signal(signal.SIGKILL)
    wait_for(other._processes[job.job_id].has_ended)
    other.get(job.job_id)


def test_what_is_left_of_a_foreign_group_is_not_swept(
    tmp_path: Path, start: Callable[..., JobStore]
) -> None:
    """The leader has ended; the record's number is that of a group with somebody in it."""
    noted = tmp_path / "pid"
    leader = subprocess.Popen(
        ["sh", "-c", f"sleep 600 & echo $! > {noted}"], start_new_session=True
    )
    leader.wait()
    member = int(noted.read_text())
    try:
        assert os.getpgid(member) == leader.pid
        for number, fields in enumerate(signals_due()):
            job_id = f"tune-20200101-000000-00000{number}"
            forge(tmp_path / "state/jobs", job_id, pid=leader.pid, mark="gone", **fields)
        store = start()
        for number in range(4):
            exercise(store, f"tune-20200101-000000-00000{number}")
        time.sleep(0.2)
        assert mark_of(member) is not None
    finally:
        os.kill(member, signal.SIGKILL)


@pytest.mark.parametrize("pid", [0, 1, -1, "own", "own group"])
def test_numbers_that_mean_more_than_a_process_reach_nobody(tmp_path: Path, pid: object) -> None:
    """In a process of its own, which today's fault would end, with its whole group."""
    number = {"own": "os.getpid()", "own group": "os.getpgrp()"}.get(str(pid), repr(pid))
    code = f"""{GUARD}
import os, pathlib, sys
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.jobs import process as job_process
from tests.mcp.jobs.forge import forge, signals_due
from tests.mcp.jobs.test_foreign import exercise
root = pathlib.Path({str(tmp_path)!r})
for case, fields in enumerate(signals_due()):
    for mark in (None, job_process.mark_of(os.getpid())):
        job_id = f"tune-20200101-000000-{{'a' if mark else 'b'}}0000{{case}}"
        forge(root / "jobs", job_id, pid={number}, mark=mark, **fields)
store = JobStore(root, root, (sys.executable, "-c", "print('{{}}')"))
for job in store.jobs(20):
    exercise(store, job.job_id)
print("alive", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive\n"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root for another user")
def test_a_process_of_another_user_is_left_alone(tmp_path: Path) -> None:
    with victim(user=65534) as process:
        wait_for(lambda: (Path("/proc") / str(process.pid)).stat().st_uid == 65534)
        mark = mark_of(process.pid)
        assert mark is not None
        assert identify(process.pid, mark, SLEEP) is None
    with victim() as process:
        found = identify(process.pid, mark_of(process.pid) or "", SLEEP)
        assert isinstance(found, Verified)
        found.close()


def test_a_job_of_another_server_that_proves_itself_is_ended_with_its_group(
    tmp_path: Path, start: Callable[..., JobStore]
) -> None:
    noted = tmp_path / "child"
    code = (
        "import pathlib, signal, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(noted)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    first = start(code)
    job = first.start("tune", [])
    wait_for(lambda: noted.exists() and noted.read_text())
    child = int(noted.read_text())
    second = start()
    assert second.get(job.job_id).state == "running"
    assert isinstance(second._processes[job.job_id], Verified)
    # The first one is no more.
    first._own.clear()
    second.cancel(job.job_id)
    wait_for(lambda: second.get(job.job_id).state == "interrupted")
    wait_for(lambda: mark_of(child) is None)


def test_a_kernel_that_signals_no_group_by_descriptor_signals_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A flag that no kernel knows is refused like one that an old kernel does not know yet.
    monkeypatch.setattr(job_process, "_PROCESS_GROUP", 1 << 20)
    with victim() as process:
        found = identify(process.pid, mark_of(process.pid) or "", SLEEP)
        assert isinstance(found, Verified)
        found.signal(signal.SIGTERM)
        wait_for(found.has_ended)
        found.signal(signal.SIGKILL)
        found.close()
        found.signal(signal.SIGKILL)


def test_a_descriptor_reaches_no_later_process_of_the_same_number() -> None:
    """Once the process is gone, and its group, a signal through it goes nowhere."""
    with victim() as process:
        found = identify(process.pid, mark_of(process.pid) or "", SLEEP)
        assert isinstance(found, Verified)
        process.kill()
        process.wait()
        assert found.has_ended()
        with victim() as later:
            found.signal(signal.SIGKILL)
            assert survives(later)
        found.close()


def test_a_system_that_cannot_prove_it_does_not_signal(
    tmp_path: Path, start: Callable[..., JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start()
    job = first.start("tune", [])
    monkeypatch.delattr(os, "pidfd_open")
    second = start()
    told = second.cancel(job.job_id)
    assert told.state == "cancelling"
    assert f"kill -INT {job.pid}" in told.warnings[0]
    assert survives_as_job(first, job.job_id)
    # The server that started it finds the request and carries it out.
    monkeypatch.setattr(job_store, "_ESCALATION", ((0.0, signal.SIGKILL),))
    first.tend()
    wait_for(lambda: first.get(job.job_id).state == "interrupted")


def survives_as_job(store: JobStore, job_id: str) -> bool:
    time.sleep(0.2)
    return not store._processes[job_id].has_ended()


def test_the_numbers_of_a_running_job_are_those_that_the_server_knows(
    tmp_path: Path, start: Callable[..., JobStore]
) -> None:
    """Somebody puts another process into the record of a job that runs."""
    store = start()
    job = store.start("tune", [])
    with victim() as process:
        forge(store._folder, job.job_id, pid=process.pid, mark=mark_of(process.pid))
        own = store._processes[job.job_id]
        store.cancel(job.job_id)
        # An interrupt while Python itself still starts may get lost.
        own.signal(signal.SIGKILL)
        wait_for(lambda: store.get(job.job_id).state == "interrupted")
        assert survives(process)
    record = load(store._folder / job.job_id)
    assert record.pid == job.pid
    assert store.get(job.job_id).exit_code == 130


def test_what_is_forgotten_is_the_folder_itself(
    tmp_path: Path, start: Callable[..., JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that is a path must not choose what is deleted, nor a link lead there."""
    monkeypatch.setattr(job_store, "_KEPT", 0)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "job.json").write_text("{}")
    jobs = tmp_path / "state/jobs"
    for number, job_id in enumerate((str(precious), "../../precious", "..", ".")):
        folder = forge(jobs, f"tune-20200101-000000-00000{number}", state="finished")
        record = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**record, "job_id": job_id}))
    forge(tmp_path / "state", "precious", state="finished")
    (jobs / "tune-20200101-000000-00000a").symlink_to(precious)
    (jobs / "tune-20200101-000000-00000b").symlink_to(tmp_path / "state/precious")
    store = start("print('{}')")
    store.start("check_contract", [])
    assert (precious / "job.json").read_text() == "{}"
    assert (tmp_path / "state/precious/job.json").exists()
    assert jobs.is_dir()
    damaged = [job for job in store.jobs(20) if job.state == "damaged"]
    assert len(damaged) == 6
    with pytest.raises(UsageError):
        store.get("../precious")
