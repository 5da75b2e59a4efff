"""``espdl-quantize engines`` on a small network."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.contracts import RUN, write_contract

pytestmark = pytest.mark.slow


@pytest.fixture
def engines(command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    # The iterations run in processes of their own, which import what the contracts do.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return partial(command, "engines")


def test_it_compares_results_and_times(tmp_path: Path, engines: Command) -> None:
    away = tmp_path / "away"
    away.mkdir()
    # Paths are of the caller's directory, wherever the contract goes.
    write_contract(tmp_path, prelude=f"import os\nos.chdir({str(away)!r})\n")
    done = engines("user_quant.py", "--json", "--output-dir", "both")
    assert done.returncode == 0, done.stderr
    assert not [*away.iterdir()]
    found = json.loads(done.stdout)
    assert found["agrees"] is True
    assert found["same_model"] is True
    assert found["layerwise"] <= 1e-6
    assert found["graphwise"] == 0
    assert {"quantize", "analyse", "evaluate"} <= set(found["seconds"])
    for engine in ("reference", "fast"):
        index = json.loads((tmp_path / "both" / engine / "iter_0/iteration_index.json").read_text())
        assert index["engine"] == engine


def test_a_difference_is_told(tmp_path: Path, engines: Command) -> None:
    # A score that depends on the process stands for an engine that is wrong.
    contract = write_contract(
        tmp_path, evaluate=f"{RUN}import os\n    return {{'top1': os.getpid()}}"
    )
    done = engines(str(contract))
    assert done.returncode == 1
    assert "do not agree" in done.stdout


def test_a_failure_names_the_engine(tmp_path: Path, engines: Command) -> None:
    contract = write_contract(tmp_path, evaluate="raise ValueError('boom')")
    done = engines(str(contract))
    assert done.returncode == 5
    assert "reference engine failed" in done.stderr
    assert "boom" in done.stderr


def test_a_folder_in_use_is_refused(tmp_path: Path, engines: Command) -> None:
    (tmp_path / "mine").write_text("")
    done = engines(str(write_contract(tmp_path)), "--output-dir", str(tmp_path))
    assert done.returncode == 7
    assert "not empty" in done.stderr
