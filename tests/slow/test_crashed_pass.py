"""A network whose LSTM esp-ppq cannot train: the search goes on without that block."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import Engine, NoProgress, PassError, Strategy
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import target_names
from espdl_quantize.record import read_history
from espdl_quantize.report import compare
from espdl_quantize.setting import parse_setting
from espdl_quantize.tuning import Budget, RealBackend, TuneOptions, tune
from tests.contracts import CONFIG, write_contract

MODEL = """import torch
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Conv2d(1, 6, 3, stride=2, padding=1)
            self.cells = torch.nn.LSTM(6, 6, batch_first=True)
            self.head = torch.nn.Linear(6, 10)
        def forward(self, x):
            rows = self.stem(x).relu().flatten(2).transpose(1, 2)
            zeros = (rows[:, 0, :6] * 0).unsqueeze(0)
            return self.head(self.cells(rows, (zeros, zeros))[0].mean(dim=1))
    torch.manual_seed(0)
    return Net().eval()"""
CALIBRATION = """import torch
    images = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.utils.data.DataLoader(images, batch_size=4)"""
EVALUATE = """import torch
    from esp_ppq.executor import TorchExecutor
    image = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    scores = TorchExecutor(graph=quant_graph, device='cpu').forward(image)[0]
    return {'top1': float(scores.mean())}"""


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {**CONFIG, "input_shape": [1, 4, 4], "batch_size": 4, "calib_steps": 2}
    return write_contract(
        tmp_path_factory.mktemp("lstm"),
        config=config | {"analyse_steps": 1},
        model=MODEL,
        calibration=CALIBRATION,
        evaluate=EVALUATE,
    )


@pytest.mark.usefixtures("short_training")
def test_the_sweep_goes_on_without_the_block_that_esp_ppq_cannot_train(
    contract: Path, tmp_path: Path
) -> None:
    backend = RealBackend(
        load_contract(contract, target_names()),
        RunOptions(engine=Engine.REFERENCE),
    )
    tune(backend, tmp_path, TuneOptions(Budget(3), final=False, strategy=Strategy.SEED))
    history = read_history(tmp_path)
    assert [row.id for row in history.failed] == [1]
    failed, after = history.iterations[1:3]
    assert failed.failure is not None
    where = failed.failure.failed_pass
    assert where is not None
    assert (where.name, where.field) == ("tqt", "tqt_optimization")
    assert any("LSTM" in op for op in where.layers)
    assert any("Conv" in op for op in where.other_layers)
    assert after.setting is not None
    assert after.setting.tqt_optimization is not None
    assert after.setting.calib_algorithm == "mse"
    trained = after.setting.tqt_optimization.interested_layers
    assert trained
    assert not any("LSTM" in op for op in trained)
    assert after.setting.rationale is not None
    assert "Left out" in after.setting.rationale
    notes = compare(tmp_path).comparison.to_json()["next_step_hint"]["notes"]
    assert any("tqt_optimization crashed in iter_1" in note for note in notes)


def test_a_failure_in_a_pass_names_the_pass_and_its_block_and_stays_on_record(
    contract: Path, tmp_path: Path
) -> None:
    folder, loaded = tmp_path / "iter_0", load_contract(contract, target_names())
    correct = {"enabled": True, "block_size": 1, "steps": 1}
    setting = parse_setting({"iteration_id": 0, "bias_correct": correct})
    options = RunOptions(engine=Engine.REFERENCE)
    with pytest.raises(PassError) as caught:
        run_iteration(loaded, setting, folder, options, NoProgress())
    where = caught.value.failed_pass
    assert where is not None
    assert (where.name, where.field) == ("bias correction", "bias_correct")
    assert "LSTM" in where.layer
    assert where.layer in caught.value.cause
    before = json.loads((folder / "iteration_index.json").read_text())["error"]
    assert before["field"] == "bias_correct"
    plain = parse_setting({"iteration_id": 0})
    run_iteration(loaded, plain, folder, options, NoProgress())
    (attempt,) = read_history(tmp_path).iterations[0].attempts
    assert attempt.failure.cause == before["cause"]
    assert attempt.failure.failed_pass is not None
    assert attempt.failure.failed_pass.field == "bias_correct"
    assert attempt.seconds is not None
    assert attempt.seconds > 0
    assert attempt.ended_at
