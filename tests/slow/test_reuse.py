"""What is taken from the memory is what would have been computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from espdl_quantize.contract import read_batches
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import (
    QuantizedModel,
    engine_for,
    export,
    prepare_float_model,
    probe_target,
    quantize,
)
from espdl_quantize.record import read_history
from espdl_quantize.setting import parse_setting, resolve
from tests.slow.test_fast_engine import parameters, scales, tune_shortly
from tests.slow.test_networks import contract_for

pytestmark = pytest.mark.slow

TQT = {"enabled": True, "steps": 4, "lr": 1e-3}
SETTINGS: dict[str, dict[str, Any]] = {
    "calibration": {"calib_algorithm": "mse"},
    "bias correction": {"bias_correct": {"enabled": True}},
    "tqt": {"tqt_optimization": TQT},
    # It draws random numbers.
    "weight split": {
        "tqt_optimization": TQT,
        "weight_split": {"enabled": True, "interested_layers": [], "method": "random"},
    },
    "blockwise": {
        "tqt_optimization": TQT,
        "blockwise_reconstruction": {"enabled": True, "steps": 3},
    },
}


class Case:
    def __init__(self, folder: Path, kind: str = "residual", target: str = "esp32s3") -> None:
        contract = contract_for(kind, "torch", target, folder)
        self.config, self.target = contract.config, target
        self.batches = read_batches(contract)[:2]
        self.model = prepare_float_model(contract, folder)
        self.memory = folder / "memory"

    def quantized(self, fields: Any, *, memory: bool = True, batches: Any = None) -> QuantizedModel:
        setting = parse_setting({"iteration_id": 0, **fields})
        resolved = resolve(setting, probe_target(self.target))
        with engine_for(Engine.FAST).install() as engine:
            return quantize(
                self.model,
                self.config,
                resolved,
                self.batches if batches is None else batches,
                NoProgress(),
                engine=engine,
                memory=self.memory if memory else None,
            )

    def layers(self) -> list[str]:
        graph = self.model.load()
        return [op.name for op in graph.topological_sort() if op.type in ("Conv", "Gemm")]


def same(one: QuantizedModel, other: QuantizedModel, folder: Path) -> None:
    assert scales(one) == scales(other)
    for name, value in parameters(one).items():
        assert torch.equal(value, parameters(other)[name]), name
    files = []
    for number, model in enumerate((one, other)):
        export(model, folder / f"{number}.espdl")
        files.append((folder / f"{number}.espdl").read_bytes())
    assert files[0] == files[1]


def results(model: QuantizedModel) -> dict[str, int]:
    return {one.name: one.results for one in model.reused}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_second_run_takes_everything_and_ends_equal(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune_shortly(monkeypatch)
    case, fields = Case(tmp_path), SETTINGS[name]
    if "weight_split" in fields:
        split = {**fields["weight_split"], "interested_layers": case.layers()[:1]}
        fields = {**fields, "weight_split": split}
    plain = case.quantized(fields, memory=False)
    first, second = case.quantized(fields), case.quantized(fields)
    assert not first.reused
    assert "runtime calibration" in results(second)
    trained = {"bias correction", "tqt", "weight split", "blockwise"}
    assert (len(results(second)) > 1) == (name in trained)
    same(plain, second, tmp_path)
    same(first, second, tmp_path)


def test_blocks_before_a_change_are_taken_and_those_behind_it_trained(tmp_path: Path) -> None:
    case = Case(tmp_path)
    last = {"dispatching_table": [{"op": case.layers()[-1], "bits": 16}]}
    case.quantized({"tqt_optimization": {**TQT, "block_size": 1}})
    fields = {"tqt_optimization": {**TQT, "block_size": 1}, **last}  # type: ignore[dict-item]
    changed = case.quantized(fields)
    assert 0 < results(changed)["tqt"] < len(case.layers())
    same(case.quantized(fields, memory=False), changed, tmp_path)


def test_other_data_misses(tmp_path: Path) -> None:
    case = Case(tmp_path)
    fields = SETTINGS["tqt"]
    case.quantized(fields)
    other = [*case.batches[:-1], case.batches[-1].map(lambda tensor: tensor + 2**-10)]
    assert not case.quantized(fields, batches=other).reused


def test_another_learning_rate_takes_the_calibration_alone(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.quantized(SETTINGS["tqt"])
    found = case.quantized({"tqt_optimization": {**TQT, "lr": 2e-3}})
    assert results(found) == {"runtime calibration": 1}


def test_a_damaged_memory_is_computed_again(tmp_path: Path) -> None:
    case = Case(tmp_path)
    fields = SETTINGS["tqt"]
    first = case.quantized(fields)
    for file in case.memory.iterdir():
        file.write_bytes(file.read_bytes()[:-40])
    second = case.quantized(fields)
    assert not second.reused
    same(first, second, tmp_path)


def test_an_iteration_takes_what_an_earlier_one_computed_and_says_so(tmp_path: Path) -> None:
    contract = contract_for("residual", "torch", "esp32s3", tmp_path)
    setting = parse_setting({"iteration_id": 0, "tqt_optimization": TQT})
    records = [
        run_iteration(contract, setting, tmp_path / "outputs" / f"iter_{n}", options, NoProgress())
        for n, options in enumerate(
            RunOptions(reuse=reuse, stop_without_effect=False) for reuse in (True, True, False)
        )
    ]
    assert [each.name for each in records[1].reused] == ["runtime calibration", "tqt"]
    assert records[0].reused == records[2].reused == ()
    models = {(tmp_path / "outputs" / f"iter_{n}" / "model.espdl").read_bytes() for n in range(3)}
    assert len(models) == 1
    row = read_history(tmp_path / "outputs").iterations[1]
    assert row.seconds_saved == pytest.approx(
        sum(each.seconds or 0.0 for each in records[1].reused)
    )
