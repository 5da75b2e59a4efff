"""Real iterations that die in the middle of their work."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import NoProgress, Strategy
from espdl_quantize.record import read_history
from espdl_quantize.search import sweep_setting
from espdl_quantize.tuning import Budget, IsolatedBackend, TuneOptions, tune
from tests.cli.conftest import Command
from tests.contracts import EVALUATE, write_contract

pytestmark = pytest.mark.slow


def read(folder: Path, name: str = "iteration_index.json") -> Any:
    return json.loads((folder / name).read_text())


class Killing(NoProgress):
    """Sends a signal to the worker once for each one given, while it trains its second block."""

    def __init__(self, backend: IsolatedBackend, signals: list[signal.Signals]) -> None:
        self._backend, self._signals = backend, signals
        self.places: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.places.append(name)
        try:
            yield
        finally:
            self.places.pop()

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        if done >= 1 and detail.startswith("block ") and self._signals:
            assert self.places[0] == "quantize"
            os.kill(self._backend.pid or 0, self._signals.pop())


def test_a_search_goes_on_after_deaths_in_mid_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each block takes long enough to be caught in, and no longer.
    monkeypatch.setitem(vars(sweep_setting("kl").tqt_optimization), "steps", 200)
    outputs = tmp_path / "outputs"
    with IsolatedBackend(write_contract(tmp_path)) as backend:
        killing = Killing(backend, [signal.SIGKILL, signal.SIGSEGV])
        result = tune(
            backend, outputs, TuneOptions(Budget(4), strategy=Strategy.SEED), progress=killing
        )
    assert [row.id for row in result.history.scored] == [0, 3]
    first, second = (read(outputs / f"iter_{number}") for number in (1, 2))
    assert "crashed with SIGSEGV (while: quantize: " in first["error"]["cause"]
    assert "killed with SIGKILL" in second["error"]["cause"]
    for index in (first, second):
        assert index["error"]["stage"] == "quantize"
        # As much is known of it as of any failed iteration.
        assert index.keys() <= read(outputs / "iter_0").keys()
        assert {"model_name", "engine", "seed", "esp_ppq_version", "reused"} <= index.keys()
        assert index["float_reference_key"] == read(outputs / "iter_0")["float_reference_key"]
    log = (outputs / "iter_1/console.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    # Where it was, in the words of Python's own fault handler.
    assert "in optimize" in log
    # What dies is no part of the result: the folder is ranked and reported as ever.
    assert read_history(outputs).best is not None
    assert (outputs / "best/model.espdl").exists()


WAYS = {
    "ends": ("import os\n    os._exit(7)", "exit code 7", []),
    "aborts": ("import os\n    os.abort()", "crashed with SIGABRT", []),
    "leaves": ("raise SystemExit(3)", "SystemExit: 3", []),
    "eats memory": (
        "import resource, torch\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "    return {'top1': float(torch.zeros(1 << 34).sum())}",
        "memory",
        [],
    ),
    "hangs": (
        "import time\n    time.sleep(600)",
        "its limit of 15 s",
        ["--iteration-limit", "15s"],
    ),
}


ELSEWHERE = {"aborts", "leaves"}
"""What tests/worker/test_runner.py has of a process, and tests/contract/test_load.py of a call."""


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=pytest.mark.matrix if way in ELSEWHERE else ()) for way in WAYS],
)
def test_whatever_a_contract_does_the_command_says_so(
    tmp_path: Path, way: str, command: Command
) -> None:
    evaluate, told, options = WAYS[way]
    folder = tmp_path / "outputs/iter_0"
    path = write_contract(tmp_path, evaluate=evaluate)
    arguments = ["run", path, "--baseline", "--json", "--output-dir", folder]
    done = command(*arguments, *options)
    assert done.returncode in (3, 5), done.stderr
    error = json.loads(done.stdout)["error"]
    assert told in error["cause"]
    assert error["hint"]
    index = read(folder)
    assert (index["status"], index["error"]["cause"]) == ("failed", error["cause"])
    assert index["error"]["stage"] == "examine the contract"
    log = (folder / "console.log").read_text()
    assert ("once more with less memory" in log) is (way == "eats memory")
    assert index["reduced_memory"] is (way == "eats memory")
    if way in ("aborts", "hangs"):
        assert "in evaluate" in log
    # Once the contract is fixed, the same folder takes the iteration.
    if way == "ends":
        write_contract(tmp_path, evaluate=EVALUATE)
        assert command(*arguments, "--in-process").returncode == 0
        assert read(folder)["status"] == "ok"
