"""Jobs as processes: what is taken for one, and how one is ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from espdl_quantize.core import OutputFolderError, UsageError
from espdl_quantize.mcp._models import Job
from espdl_quantize.mcp.jobs import JobStore, Places
from espdl_quantize.mcp.jobs import process as job_process
from espdl_quantize.mcp.jobs import store as job_store
from espdl_quantize.mcp.jobs.process import mark_of
from espdl_quantize.mcp.jobs.record import load, save

IGNORES = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('{}', end='', flush=True); time.sleep(600)"  # noqa: E501
SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], JobStore]]:
    """Stores whose command is a line of Python; what still runs in the end is killed."""
    made: list[JobStore] = []

    def one(code: str) -> JobStore:
        store = JobStore(
            tmp_path / "state", tmp_path, (sys.executable, "-c", code), places=Places(contract=8)
        )
        made.append(store)
        return store

    yield one
    for store in made:
        for process in store._processes.values():
            process.signal(signal.SIGKILL)
            process.close()


def ended(store: JobStore, job: Job, seconds: float = 20) -> Job:
    deadline = time.monotonic() + seconds
    while (now := store.get(job.job_id)).state in ("running", "cancelling"):
        assert time.monotonic() < deadline, now
        store.tend()
        time.sleep(0.02)
    return now


def test_what_was_printed_decides(make: Callable[[str], JobStore]) -> None:
    refusal = {"ok": False, "error": {"message": "m", "hint": "d", "exit_code": 5}}
    cases = {
        "print('{\"a\": 1}')": ("finished", 0),
        f"print({json.dumps(json.dumps(refusal))}); raise SystemExit(5)": ("failed", 5),
        "print('{\"a\":')": ("lost", 1),
        "print('noise {1}'); print('{\"a\": 1}'); print('{bye')": ("finished", 0),
        "import sys; sys.exit('all is lost')": ("lost", 1),
        "import os; os.kill(os.getpid(), 9)": ("lost", 137),
    }
    for code, (state, exit_code) in cases.items():
        job = ended(store := make(code), store.start("check_contract", ["x"]))
        assert (job.state, job.exit_code) == (state, exit_code)
        assert (job.error is None) == (state == "finished")
        if "all is lost" in code:
            assert job.error is not None and "all is lost" in job.error.message
        if exit_code == 137:
            assert job.error is not None and "SIGKILL" in job.error.message
            assert job.error.exit_code == 137
        # Once told, it stays, also for another server.
        assert make(code).get(job.job_id).state == state


def test_what_ignores_ctrl_c_is_ended_all_the_same(
    make: Callable[[str], JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        job_store,
        "_ESCALATION",
        ((0.0, signal.SIGINT), (0.3, signal.SIGTERM), (60.0, signal.SIGKILL)),
    )
    store = make(IGNORES)
    job = store.start("tune", [])
    printed = store._folder / job.job_id / "stdout.json"
    while not printed.stat().st_size:
        time.sleep(0.01)
    assert store.cancel(job.job_id).state == "cancelling"
    assert not store._processes[job.job_id].has_ended()
    printed.write_text("")
    # Another server takes it from there.
    other = make(SLEEPS)
    deadline = time.monotonic() + 20
    while store._processes and time.monotonic() < deadline:
        other.tend()
        store.get(job.job_id)
        time.sleep(0.02)
    done = store.get(job.job_id)
    assert done.state == "interrupted"
    assert done.error is not None and done.error.exit_code == 130


def test_another_process_of_the_same_number_is_not_the_job(
    make: Callable[[str], JobStore],
) -> None:
    store = make(SLEEPS)
    job = store.start("tune", [])
    folder = store._folder / job.job_id
    record = load(folder)
    assert record.mark is not None and mark_of(record.pid or 0) == record.mark
    save(folder, replace(record, mark="of another time"))
    other = make(SLEEPS)
    assert other.cancel(job.job_id).state == "lost"
    other.tend()
    time.sleep(0.1)
    assert not store._processes[job.job_id].has_ended()
    # The server that started it believes what it knows, and not the disk.
    assert store.get(job.job_id).state == "running"


@pytest.mark.parametrize("look", [job_process._mark_by_proc, job_process._mark_by_ps])
def test_a_process_that_has_ended_has_no_mark(look: Callable[[int], str | None]) -> None:
    if look is job_process._mark_by_ps and shutil.which("ps") is None:
        pytest.skip("there is no ps")
    if look is job_process._mark_by_proc and not Path("/proc/self/stat").exists():
        pytest.skip("there is no /proc")
    own = look(os.getpid())
    assert own is not None
    assert own == look(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 20
    # It is not waited for yet, and so still has a number.
    while look(child.pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.wait()
    assert look(child.pid) is None


def test_what_a_killed_job_leaves_of_its_group_is_killed(
    make: Callable[[str], JobStore], tmp_path: Path
) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'worker')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    store = make(code)
    job = store.start("tune", [])
    noted = tmp_path / "worker"
    while not noted.exists() or not noted.read_text():
        time.sleep(0.02)
    worker = int(noted.read_text())
    assert mark_of(worker) is not None
    os.kill(job.pid or 0, signal.SIGKILL)
    assert ended(store, job).state == "lost"
    deadline = time.monotonic() + 20
    while mark_of(worker) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_jobs_do_not_share_an_output_folder(
    make: Callable[[str], JobStore], tmp_path: Path
) -> None:
    # An interrupt while Python itself still starts may get lost.
    up = tmp_path / "up"
    store = make(f"import pathlib; pathlib.Path({str(up)!r}).touch(); {SLEEPS}")
    job = store.start("tune", [], tmp_path / "outputs")
    deadline = time.monotonic() + 20
    while not up.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(OutputFolderError, match=job.job_id):
        make(SLEEPS).start("run_iteration", [], tmp_path / "outputs")
    store.start("tune", [], tmp_path / "others")
    store.cancel(job.job_id)
    assert ended(store, job).state == "interrupted"
    store.start("tune", [], tmp_path / "outputs")


def test_a_damaged_record_hides_no_other(make: Callable[[str], JobStore]) -> None:
    store = make("print('{}')")
    good, bad = (ended(store, store.start("tune", [])) for _ in range(2))
    (store._folder / bad.job_id / "job.json").write_text('{"job_id": ')
    (store._folder / "not a job").mkdir()
    # A store does not read again what it has seen end.
    other = make(SLEEPS)
    assert [record.job_id for record in other.records()] == [good.job_id]
    told = other.get(bad.job_id)
    assert told.state == "damaged"
    assert told.error is not None and "is not JSON" in told.error.message
    assert {job.job_id: job.state for job in other.jobs(20)} == {
        good.job_id: "finished",
        bad.job_id: "damaged",
    }
    with pytest.raises(OutputFolderError, match="is not JSON"):
        other.cancel(bad.job_id)


def test_old_jobs_are_forgotten_and_living_ones_are_not(
    make: Callable[[str], JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "_KEPT", 2)
    living = make(SLEEPS)
    first = living.start("tune", [])
    store = make("print('{}')")
    made = [ended(store, store.start("check_contract", [])) for _ in range(4)]
    known = [record.job_id for record in store.records()]
    assert known == [job.job_id for job in (*made[:0:-1], first)]
    with pytest.raises(UsageError, match="no job"):
        living.get(made[0].job_id)
