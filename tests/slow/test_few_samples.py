"""Few calibration samples are warned of by every door that quantizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espdl_quantize.contract import FEW, load_contract
from espdl_quantize.core import Stage
from espdl_quantize.tuning import Budget, RealBackend, TuneOptions, tune
from tests.contracts import CONFIG, write_contract
from tests.tuning.fake_backend import Notes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("steps", "count"), [(3, 1), (4, 0)])
def test_a_search_and_its_iterations_warn_once(tmp_path: Path, steps: int, count: int) -> None:
    path = write_contract(tmp_path, config={**CONFIG, "calib_steps": steps})
    backend, observer = RealBackend(load_contract(path, ["esp32s3"])), Notes()
    tune(backend, tmp_path / "outputs", TuneOptions(Budget(iterations=1)), observer=observer)
    assert sum(text.startswith(FEW) for text in observer.notes) == count
    index = json.loads((tmp_path / "outputs/iter_0/iteration_index.json").read_text())
    warnings = [text for text in index["applied_setting_warnings"] if text.startswith(FEW)]
    assert len(warnings) == count
    # The forward of one batch is timed, which the time of training is derived from.
    assert Stage.RUN_ONE_BATCH in index["elapsed_by_stage"]
