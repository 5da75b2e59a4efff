"""Real iterations of small networks, run once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import NoProgress
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import target_names
from espdl_quantize.setting import baseline
from tests.contracts import CONFIG, write_contract


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with one iteration."""
    folder = tmp_path_factory.mktemp("finished")
    contract = load_contract(write_contract(folder, config=CONFIG), target_names())
    options = RunOptions(reuse=False)
    run_iteration(contract, baseline(), folder / "outputs/iter_0", options, NoProgress())
    return folder / "outputs"


@pytest.fixture
def outputs(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "outputs"))
