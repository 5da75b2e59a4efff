"""Iterations at once on a real, local Ray, with made-up iterations; workers are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from espdl_quantize.core import InstallationError
from espdl_quantize.record import Iteration, read_history, read_record
from espdl_quantize.setting import baseline, setting_key
from espdl_quantize.tuning import Budget, TuneOptions, tune
from espdl_quantize.tuning.ray.tasks import Task
from tests.search.made_runs import known
from tests.tuning.fake_backend import FakeBackend, Notes
from tests.worker.fake_job import ROOT

pytest.importorskip("ray", reason="Ray is not installed: pip install 'espdl-quantize[ray]'")

from tests.tuning.ray.made import CrewBackend, Impatient, on_ray

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for all tests that do not end it: it takes seconds to start."""
    with on_ray(num_cpus=3, num_gpus=1):
        yield


def write(contract: Path, **facts: object) -> None:
    contract.write_text(json.dumps(facts))


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract" / "user_quant.py"
    path.parent.mkdir()
    write(path)
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
    record = read_record(history.failed[0].folder)
    assert (record.metric, record.model_name, record.beside) == ("top1", "tiny", (1,))


@pytest.mark.usefixtures("local_ray")
def test_cancelled_iterations_leave_no_process_and_no_folder(
    tmp_path: Path, contract: Path
) -> None:
    write(contract, seconds=30)
    backend = CrewBackend(contract, slots=2)
    for number in (0, 1):
        backend.start(baseline(number), tmp_path / "out" / f"iter_{number}")
    files = [contract.parent / f"pid_iter_{number}" for number in (0, 1)]
    wait_until(lambda: all(file.exists() for file in files))
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    backend.cancel()
    wait_until(lambda: not any(map(alive, pids)), 20)
    backend.close()
    assert not list((tmp_path / "out").glob("*iter_*"))


@pytest.mark.usefixtures("local_ray")
def test_iterations_share_a_gpu_that_has_room_for_them(tmp_path: Path, contract: Path) -> None:
    """The GPU is Ray's word for it: what is tried is who may use it at once."""
    write(contract, device="cuda", peak={"bytes": 1, "device_share": 0.3})
    with CrewBackend(contract, slots=2) as backend:
        assert backend.facts.device == "cuda"
        assert backend.slots == 1
        tune(backend, tmp_path / "out", TuneOptions(Budget(3)))
        assert backend.slots == 2
    gpus = [(contract.parent / f"gpus_iter_{number}").read_text() for number in range(3)]
    assert gpus == ["0", "0", "0"]
    pids = {(contract.parent / f"pid_iter_{number}").read_text().split()[0] for number in (1, 2)}
    assert len(pids) == 2, "they ran one after the other"


@pytest.mark.usefixtures("local_ray")
def test_an_idle_worker_takes_over_what_finds_no_place(
    tmp_path: Path, contract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("espdl_quantize.tuning.ray.backend.PATIENCE", 0.5)
    with CrewBackend(contract, slots=1) as backend:
        first = backend._crew.hire()
        backend._cluster.ray.get(first.actor.state.remote())
        # It holds all cores, so that another can never come to life.
        first.task = Task(baseline(0), tmp_path, {}, None)
        backend.start(baseline(1), tmp_path / "out" / "iter_1")
        second = known(backend._tasks[0].worker)
        first.task = None
        assert second is not first
        assert backend.wait(Impatient()) == (1, None)
        assert backend._crew._workers == [first]
    assert [row.id for row in read_history(tmp_path / "out").scored] == [1]


@pytest.mark.usefixtures("local_ray")
def test_without_a_place_the_first_worker_does_not_wait_for_ever(
    contract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("espdl_quantize.tuning.ray.backend.LONGEST_QUEUE", 1.0)
    with CrewBackend(contract, slots=1) as backend, pytest.raises(InstallationError) as caught:
        # It holds all cores.
        backend._cluster.ray.get(backend._crew.hire().actor.state.remote())
        backend._ask(backend._crew.hire())
    assert "no place for the first worker in 1 s: it takes 3 cores" in caught.value.cause


PROGRAM = """
import sys
from pathlib import Path
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.tuning.ray.made import CrewBackend, Impatient, on_ray
with CrewBackend(Path(sys.argv[1]), slots=2) as backend:
    tune(backend, Path(sys.argv[2]), TuneOptions(Budget(6)))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_head_that_ends_is_gone_on_from(tmp_path: Path, contract: Path, how: int) -> None:
    write(contract, seconds=1.5)
    outputs = tmp_path / "out"
    head = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(contract), str(outputs)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    files = [contract.parent / f"pid_iter_{number}" for number in (1, 2)]
    try:
        wait_until(lambda: all(file.exists() for file in files), 120)
        os.kill(head.pid, how)
        head.wait(60)
    finally:
        head.kill()
        head.wait()
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    wait_until(lambda: not any(map(alive, pids)), 60)
    plain = tune(FakeBackend(), tmp_path / "plain", TuneOptions(Budget(4)))
    ended: list[Iteration] = list(read_history(outputs).iterations)
    assert ended
    tune(FakeBackend(), outputs, TuneOptions(Budget(4)))
    keys = {key for _, _, key in rows(outputs)}
    assert {setting_key(known(row.setting)) for row in plain.history.iterations} <= keys
