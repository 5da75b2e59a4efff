"""A worker process may die in any way: that costs its iteration and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import ContractError, IterationError, NoProgress, OutputFolderError
from espdl_quantize.record import read_history
from espdl_quantize.setting import baseline
from espdl_quantize.tuning import Budget, TuneOptions, tune
from espdl_quantize.worker import Runner
from espdl_quantize.worker import _death as death
from tests.worker.fake_job import JOB, ROOT, FakeIsolatedBackend


def made(**arguments: Any) -> Runner:
    return Runner(JOB, arguments, {})


def read(folder: Path, name: str = "iteration_index.json") -> Any:
    return json.loads((folder / name).read_text())


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_one_process_serves_all_iterations_that_go_well(tmp_path: Path) -> None:
    with made(deaths={"1": "print"}) as runner:
        assert runner.facts["model_name"] == "tiny"
        pid = runner.pid
        for number in range(3):
            runner.run(baseline(number), tmp_path / f"iter_{number}", NoProgress())
            assert runner.pid == pid
    assert [row.id for row in read_history(tmp_path).scored] == [0, 1, 2]
    wait_for(lambda: not is_alive(pid or 0))
    assert "begun" in (tmp_path / "iter_0/console.log").read_text()


WAYS = {
    "segfault": ("crashed with SIGSEGV", "Fatal Python error: Segmentation fault"),
    "abort": ("crashed with SIGABRT", "Fatal Python error: Aborted"),
    "exit": ("exit code 3", "begun"),
    "exit well": ("exit code 0", "begun"),
    "kill": ("killed with SIGKILL", "begun"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_death_is_a_failed_iteration_that_says_how(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another process on this machine may run out of memory in the meantime.
    monkeypatch.setattr(death, "memory_kills", lambda: 0)
    told, logged = WAYS[way]
    with made(deaths={"0": way}) as runner:
        with pytest.raises(IterationError, match=told) as caught:
            runner.run(baseline(0), tmp_path / "iter_0", NoProgress())
        assert "(while: quantize: tqt)" in caught.value.cause
        assert caught.value.hint
        index = read(tmp_path / "iter_0")
        assert index["status"] == "failed"
        assert index["error"] == {
            "stage": "quantize",
            "cause": caught.value.cause,
            "hint": caught.value.hint,
            "pass": "tqt",
            "field": "tqt_optimization",
            "layer": None,
            "layers": [],
            "other_layers": [],
        }
        assert index["primary_value"] is None
        # What the process had told of itself before.
        assert index["seed"] == 7
        assert read(tmp_path / "iter_0", "metrics.json")["_error"] == str(caught.value)
        assert read(tmp_path / "iter_0", "setting.json")["iteration_id"] == 0
        assert logged in (tmp_path / "iter_0/console.log").read_text()
        # The next one does not suffer, and the failed one may be tried again in its folder.
        runner.run(baseline(1), tmp_path / "iter_1", NoProgress())
    history = read_history(tmp_path)
    assert [row.id for row in history.scored] == [1]
    assert history.failed[0].failure is not None
    assert history.failed[0].failure.stage == "quantize"
    with made() as runner:
        runner.run(baseline(0), tmp_path / "iter_0", NoProgress())
    assert [row.id for row in read_history(tmp_path).scored] == [0, 1]


def test_a_hung_iteration_is_ended_and_leaves_where_it_hung(tmp_path: Path) -> None:
    with made(deaths={"0": "hang"}) as runner:
        with pytest.raises(IterationError, match=r"longer than its limit of 1 s") as caught:
            runner.run(baseline(0), tmp_path / "iter_0", NoProgress(), limit=1.0)
        assert "iteration_limit" in caught.value.hint
        assert "in _sleep" in (tmp_path / "iter_0/console.log").read_text()
        pids = [int(pid) for pid in (tmp_path / "asleep").read_text().split()]
        wait_for(lambda: not any(map(is_alive, pids)))
        runner.run(baseline(1), tmp_path / "iter_1", NoProgress(), limit=60.0)


def test_an_index_that_was_written_counts_though_the_process_died_after_it(tmp_path: Path) -> None:
    with made(deaths={"0": "late at segfault"}) as runner:
        record = runner.run(baseline(0), tmp_path / "iter_0", NoProgress())
    assert record.status == "ok"
    assert read_history(tmp_path).scored


def test_what_ran_out_of_memory_is_run_once_more_with_less(tmp_path: Path) -> None:
    with made(deaths={"0": "memory", "2": "much memory"}) as runner:
        record = runner.run(baseline(0), tmp_path / "iter_0", NoProgress())
        assert record.reduced_memory is True
        assert "ran out of memory at first" in record.warnings[0]
        log = (tmp_path / "iter_0/console.log").read_text()
        assert log.count("begun") == 2
        assert "once more with less memory" in log
        # What needed it once needs it again.
        record = runner.run(baseline(1), tmp_path / "iter_1", NoProgress())
        assert record.reduced_memory is True
        with pytest.raises(IterationError, match="bad_alloc"):
            runner.run(baseline(2), tmp_path / "iter_2", NoProgress())
    assert (tmp_path / "iter_2/console.log").read_text().count("begun") == 1


@pytest.mark.parametrize(
    ("before", "after", "told", "memory"),
    [
        (0, 1, "because memory ran out", True),
        (None, None, "likely because memory ran out", True),
        (1, 1, "not by the kernel for memory", False),
    ],
)
def test_who_killed_it_is_told_as_far_as_it_is_known(
    monkeypatch: pytest.MonkeyPatch, before: Any, after: Any, told: str, memory: bool
) -> None:
    monkeypatch.setattr(death, "memory_kills", lambda: after)
    found = death.death_of(-signal.SIGKILL, before)
    assert told in found.cause
    assert found.out_of_memory is memory


def test_errors_keep_their_kind_and_faults_of_the_program_are_no_iteration(tmp_path: Path) -> None:
    with made(deaths={"0": "contract", "1": "broken", "2": "interrupt"}) as runner:
        with pytest.raises(ContractError, match="no 'top1'") as caught:
            runner.run(baseline(0), tmp_path / "iter_0", NoProgress())
        assert (caught.value.hint, caught.value.exit_code) == ("return it", 3)
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            runner.run(baseline(1), tmp_path / "iter_1", NoProgress())
        assert not (tmp_path / "iter_1").exists()
        with pytest.raises(IterationError, match="ended with SIGINT"):
            runner.run(baseline(2), tmp_path / "iter_2", NoProgress())
        runner.run(baseline(3), tmp_path / "iter_3", NoProgress())
        with pytest.raises(OutputFolderError, match="overwrite=True"):
            runner.run(baseline(3), tmp_path / "iter_3", NoProgress())
        runner.run(baseline(3), tmp_path / "iter_3", NoProgress(), overwrite=True)
    assert not list(tmp_path.glob(".*.partial"))


def test_a_process_that_dies_before_its_first_order_says_what_it_said(tmp_path: Path) -> None:
    with made(deaths={"open": "exit"}) as runner:
        with pytest.raises(ContractError, match=r"exit code 4; it said: no such library"):
            _ = runner.facts
        with pytest.raises(ContractError):
            runner.run(baseline(0), tmp_path / "outputs/iter_0", NoProgress())
    assert not (tmp_path / "outputs").exists()


def test_a_worker_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    with made() as runner:
        thread = threading.Thread(target=lambda: runner.facts)
        thread.start()
        thread.join()
        pid = runner.pid
        time.sleep(0.2)
        runner.run(baseline(0), tmp_path / "iter_0", NoProgress())
        assert runner.pid == pid


def test_a_job_that_never_opens_is_ended(tmp_path: Path) -> None:
    with (
        Runner(JOB, {"deaths": {"open": "hang"}}, {}, open_limit=2.0) as runner,
        pytest.raises(ContractError, match="does not load: it took longer than its limit of 2 s"),
    ):
        _ = runner.facts


def test_ctrl_c_ends_the_worker_and_leaves_no_half_written_folder(tmp_path: Path) -> None:
    class Interrupting(NoProgress):
        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            if name == "tqt":
                raise KeyboardInterrupt
            yield

    with made(deaths={"0": "hang"}) as runner:
        pid = runner.facts and runner.pid
        with pytest.raises(KeyboardInterrupt):
            runner.run(baseline(0), tmp_path / "iter_0", Interrupting())
        assert not is_alive(pid or 0)
        assert not [entry for entry in tmp_path.iterdir() if entry.is_dir()]


PARENT = """
from pathlib import Path
from espdl_quantize.core import NoProgress
from espdl_quantize.setting import baseline
from tests.worker.fake_job import FakeIsolatedBackend
import sys
outputs = Path(sys.argv[1])
FakeIsolatedBackend(deaths={"0": "hang"}).run(baseline(0), outputs / "iter_0", NoProgress())
"""


def test_a_killed_parent_leaves_no_process_and_a_folder_that_can_be_used(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT)
    wait_for((tmp_path / "asleep").exists)
    wait_for(lambda: (tmp_path / "asleep").read_text().count(" ") == 1)
    worker = int((tmp_path / "asleep").read_text().split()[0])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not is_alive(worker))
    assert not (tmp_path / "iter_0").exists()
    with made() as runner:
        runner.run(baseline(0), tmp_path / "iter_0", NoProgress())
    assert not list(tmp_path.glob(".iter_*"))


def test_a_closed_pipe_ends_a_busy_worker_with_its_children(tmp_path: Path) -> None:
    """It is what a system has to go by that cannot tie a process to its parent."""
    from espdl_quantize.worker import Worker
    from espdl_quantize.worker._wire import encode

    worker = Worker()
    arguments = {"deaths": {"0": "hang"}}
    assert worker.ask({"do": "open", "job": JOB, "arguments": arguments})["event"] == "opened"
    pipe = worker._process.stdin
    assert pipe is not None
    (tmp_path / "staging").mkdir()
    order = {
        "setting": baseline(0).model_dump(exclude_unset=True),
        "folder": str(tmp_path / "iter_0"),
        "staging": str(tmp_path / "staging"),
        "options": {},
        "notes": [],
    }
    pipe.write(encode({"do": "run", "order": order}))
    pipe.flush()
    wait_for((tmp_path / "asleep").exists)
    wait_for(lambda: (tmp_path / "asleep").read_text().count(" ") == 1)
    pids = [int(pid) for pid in (tmp_path / "asleep").read_text().split()]
    pipe.close()
    wait_for(lambda: not any(map(is_alive, pids)))
    worker.close()


def test_a_search_goes_on_over_every_kind_of_death(tmp_path: Path) -> None:
    deaths = {"1": "segfault", "2": "exit", "4": "hang", "5": "memory", "6": "abort"}
    backend = FakeIsolatedBackend(deaths=deaths, limit=1.0)
    with backend.runner:
        result = tune(backend, tmp_path, TuneOptions(Budget(9)))
    assert result.iterations_run == 9
    assert [row.id for row in result.history.failed] == [1, 2, 4, 6]
    assert [row.id for row in result.history.scored] == [0, 3, 5, 7, 8]
    assert result.history.best is not None
    assert read(tmp_path / "best")["iteration_id"] == result.history.best.id


def test_the_same_death_again_and_again_ends_the_search(tmp_path: Path) -> None:
    backend = FakeIsolatedBackend(deaths=dict.fromkeys(map(str, range(9)), "exit"))
    with backend.runner, pytest.raises(IterationError, match="iter_0 and iter_1 failed alike"):
        tune(backend, tmp_path, TuneOptions(Budget(9)))
