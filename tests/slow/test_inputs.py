"""A model with a state, a constant and inputs by name goes all the way, by both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.iteration import RunOptions, run_iteration, verify_iteration
from espdl_quantize.record.files import MODEL, TEST_MODEL
from espdl_quantize.setting import Setting, baseline, parse_setting
from tests.contracts import CONFIG, write_contract
from tests.there import there

pytestmark = pytest.mark.slow

NAMED = CONFIG | {
    "input_shape": {"rate": [1], "row": [28], "state": [1, 16]},
    "batch_axis": {"state": 1, "rate": None},
    "batch_size": 8,
    "calib_steps": 40,
}
CALIBRATION = """from tests.networks import calibration_images, network
    model, batches = network("streaming"), []
    for part in calibration_images(32).squeeze(1).split(8):
        state = torch.zeros(1, 8, 16)
        for step in range(4, 24, 5):
            batches.append({"state": state, "rate": torch.ones(1), "row": part[:, step]})
            with torch.no_grad():
                state = model(part[:, step], state, torch.ones(1))[1]
    return batches"""
EVALUATE = """from esp_ppq.executor import TorchExecutor
    from tests.networks import held_out_images
    run, found = TorchExecutor(graph=quant_graph, device="cpu"), []
    for part in held_out_images(8).squeeze(1).split(4):
        state = torch.zeros(1, 4, 16)
        for step in range(28):
            inputs = {"row": part[:, step], "state": state, "rate": torch.ones(1)}
            logits, state = run.forward(inputs)
        found += logits.max(1).values.tolist()
    return {"top1": sum(found), "per_sample": found}"""
MODEL_BODY = "from tests.networks import network\n    return network('streaming')"
ONNX_MODEL = """import torch
from tests.networks import network
torch.onnx.export(
    network("streaming"), (torch.zeros(1, 28), torch.zeros(1, 1, 16), torch.ones(1)),
    str(__import__("pathlib").Path(__file__).with_name("stream.onnx")),
    input_names=["row", "state", "rate"], dynamo=False,
)
"""


@pytest.mark.parametrize("model_type", ["torch", "onnx"])
def test_states_and_constants_by_name(tmp_path: Path, model_type: str) -> None:
    path = write_contract(
        tmp_path,
        prelude=ONNX_MODEL if model_type == "onnx" else "import torch\n",
        config=NAMED | {"model_type": model_type, "onnx_path": "stream.onnx"},
        calibration=CALIBRATION,
        evaluate=EVALUATE,
        model=MODEL_BODY,
    )
    contract = load_contract(path, ["esp32s3"])
    # Training alone moves no integer of so small a head.
    trained: Setting = parse_setting(
        {
            "iteration_id": 1,
            "tqt_optimization": {"enabled": True, "steps": 8},
            "dispatching_table": [{"op": "/head/Gemm", "bits": 16}],
        }
    )
    models = []
    for engine in (Engine.FAST, Engine.REFERENCE):
        outputs = tmp_path / engine
        options = RunOptions(engine=engine)
        record = run_iteration(contract, baseline(0), outputs / "iter_0", options, NoProgress())
        signals = there(record.signals)
        assert signals.samples > 200
        assert there(signals.noise_signal) < 0.01
        assert any("calib_steps is 40" in warning for warning in record.warnings)
        assert (outputs / "iter_0" / TEST_MODEL).is_file()
        models.append((outputs / "iter_0" / MODEL).read_bytes())
    assert models[0] == models[1]
    folder = tmp_path / Engine.FAST / "iter_1"
    run_iteration(contract, trained, folder, RunOptions(), NoProgress())
    assert verify_iteration(contract, folder, 4, NoProgress()).holds
