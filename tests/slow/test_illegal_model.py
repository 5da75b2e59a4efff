"""An iteration whose export no chip can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import IterationError, NoProgress
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import export, target_names
from espdl_quantize.record import read_history
from espdl_quantize.setting import baseline, parse_setting
from tests.chip.made import Bytes
from tests.cli.conftest import Command
from tests.contracts import write_contract

pytestmark = pytest.mark.slow


def test_an_illegal_model_fails_its_iteration_and_is_never_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = load_contract(write_contract(tmp_path), target_names())
    outputs = tmp_path / "outputs"
    record = run_iteration(contract, baseline(), outputs / "iter_0", RunOptions(), NoProgress())
    assert record.on_chip is not None
    assert record.on_chip.legal is True

    def damaging(model: Any, file: Path, **options: Any) -> dict[str, tuple[int, ...]]:
        layouts = export(model, file, **options)
        damaged = Bytes(file.read_bytes())
        damaged.set_exponent("/blocks/blocks.0/Relu_output_0", -20)
        file.write_bytes(damaged.result())
        return layouts

    monkeypatch.setattr("espdl_quantize.iteration._run.export", damaging)
    better = parse_setting({"iteration_id": 1, "calib_algorithm": "minmax"})
    with pytest.raises(IterationError, match=r"op '/blocks/blocks\.0/depthwise/Conv'"):
        run_iteration(contract, better, outputs / "iter_1", RunOptions(), NoProgress())

    failed = json.loads((outputs / "iter_1/iteration_index.json").read_text())
    assert failed["status"] == "failed"
    assert failed["error"]["stage"] == "check model"
    assert "another calib_algorithm" in failed["error"]["hint"]
    assert not (outputs / "iter_1/model.espdl").exists()
    faults = json.loads((outputs / "iter_1/chip_check.json").read_text())["legality"]["faults"]
    assert {"shift"} <= {fault["rule"] for fault in faults}
    best = read_history(outputs).best
    assert best is not None
    assert best.id == 0


def test_verify_tells_the_file_that_was_scored_from_another(
    tmp_path: Path, command: Command
) -> None:
    path = write_contract(tmp_path)
    contract, outputs = load_contract(path, target_names()), tmp_path / "outputs"
    run_iteration(contract, baseline(), outputs / "iter_0", RunOptions(), NoProgress())
    done = command("verify", str(path), "--output-dir", str(outputs), "--samples", "3", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["same_file"] is True
    assert found["integers"]["samples"] == 3
    assert found["integers"]["exact_percent"] == 100.0

    file = outputs / "iter_0/model.espdl"
    other = Bytes(file.read_bytes())
    for place in range(16):
        other.set_number("head.weight", place, 127, "int8")
    file.write_bytes(other.result())
    done = command("verify", str(path), "--output-dir", str(outputs / "iter_0"), "--samples", "1")
    assert done.returncode == 1
    told = done.stdout
    assert "differs from what its setting makes now" in told
    assert "/head/Gemm" in told
