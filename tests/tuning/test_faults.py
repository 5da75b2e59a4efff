"""A search that is killed anywhere, or finds the disk full, ends as if it had not been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError
from espdl_quantize.record import read_history, read_live
from espdl_quantize.record.files import LIVE
from espdl_quantize.report import compare
from espdl_quantize.tuning import TuneOptions, tune
from tests.faults import DONE, KILLED, REFUSED, Fault, every, operations, run_with_fault
from tests.tuning.fake_backend import FakeBackend
from tests.worker.fake_job import ROOT

TARGET = 0.74
"""Three iterations: baseline, and two of the sweep, the best of which reaches it."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def search(outputs: Path, target: float = TARGET) -> None:
    tune(FakeBackend(target=target), outputs, TuneOptions())


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def result(outputs: Path) -> dict[str, Any]:
    """Everything that a search leaves, byte by byte; the paths in it are made relative.

    The state for whoever watches holds times and a number of a process: it is read instead.
    """
    assert not read_live(outputs).is_running
    found: dict[str, Any] = {}
    for entry in sorted(outputs.iterdir()):
        if entry.is_dir():
            found[entry.name] = files(entry)
        elif entry.name not in (".lock", LIVE):
            found[entry.name] = entry.read_text().replace(str(outputs), "OUTPUTS")
    return found


def check_whole(outputs: Path, whole: dict[str, Any]) -> int:
    """Check that what can be seen is whole at this moment; return how many iterations there are."""
    if not outputs.exists():
        return 0
    rows = read_history(outputs).iterations
    assert [row.id for row in rows] == list(range(len(rows)))
    for row in rows:
        assert files(row.folder) == whole[row.name], f"{row.name} is not what it was"
    for name in ("comparison.json", "iter_0/metrics.json", ".lock.json"):
        if (outputs / name).exists():
            assert isinstance(json.loads((outputs / name).read_text()), dict)
    best = outputs / "best"
    if best.exists():
        number = json.loads((best / "iteration_index.json").read_text())["iteration_id"]
        for name, content in files(best).items():
            assert content == whole[f"iter_{number}"][name], f"best/{name} is not whole"
    return len(rows)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    outputs = tmp_path_factory.mktemp("undisturbed") / "outputs"
    search(outputs)
    return result(outputs)


@pytest.fixture(scope="module")
def count(tmp_path_factory: pytest.TempPathFactory) -> int:
    outputs = tmp_path_factory.mktemp("counted") / "outputs"
    return operations(lambda: search(outputs), outputs)


def interrupt_and_resume(
    outputs: Path, fault: Fault, at: int, whole: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    ended = run_with_fault(lambda: search(outputs), outputs, fault, at)
    check_whole(outputs, whole)
    if ended == DONE:
        # Nothing was written any more; what was left to remove was removed.
        assert result(outputs) == whole
    search(outputs)
    return ended, result(outputs)


FAULTS = [
    pytest.param("kill", 17, id="killed at some"),
    pytest.param("full", 29, id="full at some"),
    pytest.param("kill", 1, id="killed at every one", marks=pytest.mark.matrix),
    pytest.param("full", 1, id="full at every one", marks=pytest.mark.matrix),
]


@pytest.mark.parametrize(("fault", "stride"), FAULTS)
def test_an_interruption_at_any_operation_changes_nothing_in_the_end(
    tmp_path: Path, undisturbed: dict[str, Any], count: int, fault: Fault, stride: int
) -> None:
    assert count > 100
    for at in every(count, stride):
        ended, found = interrupt_and_resume(tmp_path / f"{at}", fault, at, undisturbed)
        assert ended in ((KILLED,) if fault == "kill" else (REFUSED, DONE)), f"operation {at}"
        assert found == undisturbed, f"operation {at} of {count}"


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.mark.parametrize("kilobytes", [20, 56, 104, 164, 248])
def test_a_disk_that_is_really_full_loses_nothing(
    tmp_path: Path, undisturbed: dict[str, Any], kilobytes: int
) -> None:
    with disk(tmp_path / "disk", kilobytes) as small:
        outputs = small / "outputs"
        with pytest.raises((EspdlQuantizeError, OSError)) as caught:
            search(outputs)
        assert "No space left" in str(caught.value)
        check_whole(outputs, undisturbed)
        remount(small, "size=64m")
        search(outputs)
        assert result(outputs) == undisturbed


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 16_000) as small:
        search(small / "outputs")
        remount(small, "ro")
        for work in (search, compare):
            with pytest.raises(OutputFolderError, match="Read-only file system") as caught:
                work(small / "outputs")
            assert caught.value.hint


FARTHER = 0.75
"""Five iterations."""

SEED = int(os.environ.get("FAULT_SEED", "20240229"))
"""Of the random kills; a failure names it."""


@pytest.mark.parametrize(
    ("turns", "least"), [(1, 4), pytest.param(3, 15, marks=pytest.mark.matrix)]
)
def test_a_search_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, turns: int, least: int
) -> None:
    whole = tmp_path / "whole"
    search(whole, FARTHER)
    wanted, numbers, kills = result(whole), random.Random(SEED), 0
    for turn in range(turns):
        outputs, finished = tmp_path / f"{turn}", 0
        while True:
            at = numbers.randint(1, 90)
            ended = run_with_fault(lambda: search(outputs, FARTHER), outputs, "kill", at)  # noqa: B023
            now = check_whole(outputs, wanted)
            told = f"seed {SEED}, turn {turn}, kill {kills} at {at}"
            assert now >= finished, f"{told}: an iteration is lost"
            finished = now
            if ended == DONE:
                break
            kills += 1
        assert result(outputs) == wanted, told
    print(f"seed {SEED}: {kills} kills")
    assert kills >= least, f"seed {SEED}: only {kills} kills"


SEARCH = """
import sys
from pathlib import Path
from espdl_quantize.tuning import TuneOptions, tune
from tests.worker.fake_job import FakeIsolatedBackend

backend = FakeIsolatedBackend(target=float(sys.argv[2]), seconds=0.15)
with backend.runner:
    tune(backend, Path(sys.argv[1]), TuneOptions(strategy="seed"))
"""


def without_logs(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {file: one for file, one in content.items() if file != "console.log"}
        if isinstance(content, dict)
        else content
        for name, content in found.items()
    }


def children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker in /proc")
@pytest.mark.parametrize(
    ("victims", "most"),
    [
        ("the search", 3),
        ("the search or its worker", 4),
        pytest.param("the search", 6, marks=pytest.mark.matrix),
        pytest.param("the search or its worker", 6, marks=pytest.mark.matrix),
    ],
)
def test_random_kills_of_real_processes(tmp_path: Path, victims: str, most: int) -> None:
    whole, outputs = tmp_path / "whole", tmp_path / "outputs"
    search(whole, FARTHER)
    numbers, kills, costs = random.Random(SEED), 0, 0
    process: subprocess.Popen[bytes] | None = None
    while process is None or process.poll() != 0:
        if process is None or process.returncode is not None:
            process = subprocess.Popen(
                [sys.executable, "-c", SEARCH, str(outputs), str(FARTHER)],
                cwd=ROOT,
                stderr=subprocess.DEVNULL,
            )
        if kills >= most:
            process.wait()
            continue
        wait = time.monotonic() + 10
        while not children(process.pid) and process.poll() is None and time.monotonic() < wait:
            time.sleep(0.02)
        time.sleep(numbers.uniform(0, 0.9))
        if victims == "the search" or numbers.random() < 0.3:
            process.kill()
            process.wait()
            kills += 1
        for worker in children(process.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
            kills, costs = kills + 1, costs + 1
    print(f"seed {SEED}: {kills} kills, {costs} of them of a worker")
    history = read_history(outputs)
    assert not list(outputs.glob(".*.partial")), f"seed {SEED}"
    if victims == "the search":
        assert without_logs(result(outputs)) == without_logs(result(whole)), f"seed {SEED}"
        return
    assert len(history.failed) <= costs, f"seed {SEED}"
    assert all("SIGKILL" in str(row.failure) for row in history.failed)
    for row in history.scored:
        assert row.setting is not None
        assert row.value == FakeBackend().score(row.setting)
    assert history.best is not None
    assert history.best.value == max(row.value or 0 for row in history.scored) >= FARTHER
    index = json.loads((outputs / "best/iteration_index.json").read_text())
    assert index["iteration_id"] == history.best.id
