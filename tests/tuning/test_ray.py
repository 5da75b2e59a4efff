"""Iterations at once on a real, local Ray, with made-up iterations; workers are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from espdl_quantize.record import Iteration, read_history
from espdl_quantize.setting import baseline, setting_key
from espdl_quantize.tuning import Budget, Observer, TuneOptions, tune
from tests.search.made_runs import known
from tests.tuning.fake_backend import FakeBackend
from tests.worker.fake_job import ROOT

pytest.importorskip("ray", reason="the extra ray is not installed")

from espdl_quantize.tuning.ray_cluster import Share
from tests.tuning.ray_crew import CrewBackend

pytestmark = pytest.mark.slow


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def notice(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for all tests that do not end it: it takes seconds to start."""
    import ray

    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract" / "user_quant.py"
    path.parent.mkdir()
    path.write_text("0")
    return path


def rows(outputs: Path) -> list[tuple[int, float | None, str]]:
    return [
        (row.id, row.value, setting_key(known(row.setting)))
        for row in read_history(outputs).iterations
    ]


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z"
    return False


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.1)


@pytest.mark.usefixtures("local_ray")
def test_a_search_on_ray_is_the_search(tmp_path: Path, contract: Path) -> None:
    """One at a time it is the plain one; at once, each iteration is what its setting is alone."""
    plain = tune(FakeBackend(), tmp_path / "plain", TuneOptions(Budget(6)))
    with CrewBackend(contract, slots=1) as one:
        tune(one, tmp_path / "one", TuneOptions(Budget(6)))
    assert rows(tmp_path / "one") == rows(tmp_path / "plain")
    with CrewBackend(contract, slots=2, shares=False) as two:
        tune(two, tmp_path / "two", TuneOptions(Budget(4)))
    for row, same in zip(
        read_history(tmp_path / "two").iterations, plain.history.iterations, strict=False
    ):
        for name in ("metrics.json", "layerwise_error.json", "model.espdl"):
            assert (row.folder / name).read_bytes() == (same.folder / name).read_bytes()
    assert not list((tmp_path / "two").glob(".iter*"))


@pytest.mark.usefixtures("local_ray")
def test_a_lost_worker_costs_nothing_and_a_cursed_iteration_itself(
    tmp_path: Path, contract: Path
) -> None:
    (contract.parent / "lose_1").write_text("x")
    (contract.parent / "lose_2").write_text("xxxxx")
    notes = Notes()
    with CrewBackend(contract, slots=2) as backend:
        tune(backend, tmp_path / "out", TuneOptions(Budget(5)), observer=notes)
    history = read_history(tmp_path / "out")
    assert [row.id for row in history.iterations] == [0, 1, 2, 3, 4]
    assert [row.id for row in history.failed] == [2]
    assert "its worker was lost 3 times" in known(history.failed[0].failure).cause
    assert sum("was lost" in note for note in notes.notes) == 3
    assert (contract.parent / "lose_2").read_text() == "xx"


@pytest.mark.usefixtures("local_ray")
def test_cancelled_iterations_leave_no_process_and_no_folder(
    tmp_path: Path, contract: Path
) -> None:
    contract.write_text("30")
    backend = CrewBackend(contract, slots=2)
    for number in (0, 1):
        backend.start(baseline(number), tmp_path / "out" / f"iter_{number}")
    files = [contract.parent / f"pid_iter_{number}" for number in (0, 1)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    backend.cancel()
    wait_until(lambda: not any(map(alive, pids)), 20)
    backend.close()
    assert not list((tmp_path / "out").glob("*iter_*"))


PROGRAM = """
import sys
from pathlib import Path
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.tuning.ray_crew import CrewBackend
with CrewBackend(Path(sys.argv[1]), slots=2) as backend:
    tune(backend, Path(sys.argv[2]), TuneOptions(Budget(6)))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_head_that_ends_is_gone_on_from(tmp_path: Path, contract: Path, how: int) -> None:
    contract.write_text("1.5")
    outputs = tmp_path / "out"
    head = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(contract), str(outputs)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    files = [contract.parent / f"pid_iter_{number}" for number in (1, 2)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files), 120)
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    os.kill(head.pid, how)
    head.wait(60)
    wait_until(lambda: not any(map(alive, pids)), 60)
    contract.write_text("0")
    plain = tune(FakeBackend(), tmp_path / "plain", TuneOptions(Budget(4)))
    ended: list[Iteration] = list(read_history(outputs).iterations)
    assert ended
    tune(FakeBackend(), outputs, TuneOptions(Budget(4)))
    keys = {key for _, _, key in rows(outputs)}
    assert {setting_key(known(row.setting)) for row in plain.history.iterations} <= keys


def test_shares_of_nodes() -> None:
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 10.0}
    assert Share(2, 0, 0).count_in(node) == 4
    assert Share(1, 0, 4).count_in(node) == 2
    assert Share(1, 1.0, 0).count_in(node) == 2
    assert Share(1, 1 / 3, 0).count_in(node) == 6
    assert Share(1, 1.0, 11).count_in(node) == 0
    assert Share(1, 1.0, 0).count_in({"CPU": 4.0}) == 0


def test_what_is_slow_is_told_once(tmp_path: Path) -> None:
    from espdl_quantize.tuning.ray_tasks import Task

    task = Task(baseline(3), tmp_path / "iter_3", {}, 50.0)
    assert task.is_slow(100.0) is None
    assert "iter_3 has taken 1 min 41 s" in known(task.is_slow(101.0))
    assert task.is_slow(999.0) is None
