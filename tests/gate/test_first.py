"""The gate before the first iteration: what it finds ends the run, and is not computed twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import FindingsError, NoProgress, Stage
from espdl_quantize.gate import examine_first
from espdl_quantize.iteration import Prepared, RunOptions, run_iteration
from espdl_quantize.record import read_record
from espdl_quantize.setting import baseline
from tests.contracts import EVALUATE, write_contract


def test_all_faults_end_the_first_iteration_before_it_quantizes(tmp_path: Path) -> None:
    path = write_contract(
        tmp_path,
        calibration="return [__import__('torch').full((16, 1, 28, 28), float('nan'))] * 4",
        evaluate="return {'top5': 1.0}",
    )
    folder = tmp_path / "outputs" / "iter_0"
    with pytest.raises(FindingsError) as caught:
        run_iteration(
            load_contract(path, ["esp32s3"]),
            baseline(num_of_bits=8),
            folder,
            RunOptions(),
            NoProgress(),
            examine=examine_first,
        )
    assert len(caught.value.findings) == 2
    failure = read_record(folder).failure
    assert failure is not None
    assert (failure.stage, failure.is_of_contract) == (Stage.EXAMINE, True)
    assert "NaN" in failure.cause
    assert "no 'top1'" in failure.cause


def test_the_float_model_is_scored_once(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    note = f"open({str(calls)!r}, 'a').write('x')\n    "
    path = write_contract(tmp_path, evaluate=note + EVALUATE)
    contract = load_contract(path, ["esp32s3"])
    with Prepared(contract) as prepared:
        examination = examine_first(prepared, RunOptions(), tmp_path, NoProgress())
    assert examination.scored is not None
    assert examination.scored.value == 100.0
    assert examination.warnings == ()
