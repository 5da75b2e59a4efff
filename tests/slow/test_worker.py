"""Real iterations that die in the middle of their work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import NoProgress
from espdl_quantize.record import read_history
from espdl_quantize.tuning import Budget, IsolatedBackend, TuneOptions, tune
from tests.contracts import EVALUATE, write_contract

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent


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


def test_a_search_goes_on_after_deaths_in_mid_training(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    with IsolatedBackend(write_contract(tmp_path)) as backend:
        killing = Killing(backend, [signal.SIGKILL, signal.SIGSEGV])
        result = tune(backend, outputs, TuneOptions(Budget(4)), progress=killing)
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
        "its limit of 25 s",
        ["--iteration-limit", "25s"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_contract_does_the_command_says_so(tmp_path: Path, way: str) -> None:
    evaluate, told, options = WAYS[way]
    folder = tmp_path / "outputs/iter_0"
    command = [sys.executable, "-m", "espdl_quantize", "run", "--baseline", "--json", *options]
    path = write_contract(tmp_path, evaluate=evaluate)
    done = subprocess.run(
        [*command, str(path), "--output-dir", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
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
        again = [*command, str(path), "--output-dir", str(folder)]
        assert (
            subprocess.run(again, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
        )
        assert read(folder)["status"] == "ok"
