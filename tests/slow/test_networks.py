"""Whole iterations on each kind of network, through both flows, on two chips."""

import json
from itertools import product
from pathlib import Path

import pytest

from espdl_quantize.contract import Contract, load_contract
from espdl_quantize.core import NoProgress
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import target_names
from espdl_quantize.record import ARTIFACTS
from espdl_quantize.setting import baseline
from tests.contracts import CONFIG, write_contract
from tests.matrix import thinned
from tests.networks import KINDS, export_network

pytestmark = pytest.mark.slow


def contract_for(kind: str, flow: str, target: str, folder: Path, device: str = "cpu") -> Contract:
    # onnxsim turns a Linear on 3-D inputs into a Gemm between reshapes that hold the batch size.
    batch = 1 if kind == "transformer" else 16
    config = {
        **CONFIG,
        "batch_size": batch,
        "calib_steps": 2,
        "analyse_steps": 1,
        "target": target,
        "device": device,
        "model_type": flow,
        "primary_metric": "error",
        "metric_direction": "min",
    }
    if flow == "onnx":
        config["onnx_path"] = "net.onnx"
        export_network(kind, folder / "net.onnx")
    path = write_contract(
        folder,
        config=config,
        calibration="from tests.networks import calibration_images\n"
        f"    return calibration_images(32).split({batch})",
        model=f"from tests.networks import network\n    return network({kind!r})",
        evaluate="from tests.networks import output_error\n"
        f"    return {{'error': output_error({kind!r}, quant_graph, 16)}}",
        extra=f"def collate_fn(batch):\n    return batch.to({device!r})\n",
    )
    return load_contract(path, target_names())


@pytest.mark.parametrize(
    ("kind", "flow", "target"),
    thinned(product(KINDS, ["torch", "onnx"], ["esp32s3", "esp32p4"]), strength=2),
)
def test_an_iteration_goes_through(kind: str, flow: str, target: str, tmp_path: Path) -> None:
    contract = contract_for(kind, flow, target, tmp_path)
    before = contract.onnx_path.read_bytes() if flow == "onnx" else b""
    folder = tmp_path / "outputs" / "iter_0"
    index = run_iteration(contract, baseline(), folder, RunOptions(), NoProgress()).to_json()

    assert index["status"] == "ok"
    # In float, the esp-ppq graph computes what torch does; in int8 it is near, and not equal.
    assert index["float_value"] < 1e-6
    assert 1e-6 < index["primary_value"] < 0.5
    wanted = ARTIFACTS - {"model.json", "model.native", "device.json"}
    if kind == "transformer":
        # No ESP-DL that was looked at has a kernel for its Attention: the cost is not known.
        wanted -= {"chip_cost.json"}
    assert {entry.name for entry in folder.iterdir()} == wanted
    if flow == "onnx":
        assert contract.onnx_path.read_bytes() == before

    layerwise = json.loads((folder / "layerwise_error.json").read_text())
    assert layerwise
    assert list(layerwise.values()) == sorted(layerwise.values(), reverse=True)
    ops = json.loads((folder / "simplified_ops.json").read_text())
    assert ops["count"] == len(ops["ops"])
    statistics = json.loads((folder / "layer_stats_full.json").read_text())
    types = {row["Op type"] for row in statistics}
    expected = {"detector": {"Concat"}, "residual": {"Add"}, "lstm": {"LSTM"}, "gru": {"GRU"}}
    assert expected.get(kind, set()) <= types
