"""What one iteration promises, on a small network: equality, determinism, failures."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import load_contract, read_batches
from espdl_quantize.core import Engine, EspdlQuantizeError, Json, NoProgress, OutputFolderError
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import target_names
from espdl_quantize.setting import baseline, parse_setting
from tests.cli.conftest import Command
from tests.contracts import CONFIG, RUN, write_contract
from tests.matrix import thinned
from tests.slow.test_fast_engine import tune_shortly

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
TQT = {"enabled": True, "steps": 5, "lr": 1e-4}


def run(contract: Path, folder: Path, options: RunOptions | None = None, **fields: Any) -> Json:
    setting = parse_setting({"iteration_id": 0, **fields}) if fields else baseline(num_of_bits=None)
    loaded = load_contract(contract, target_names())
    record = run_iteration(loaded, setting, folder, options or RunOptions(), NoProgress())
    return record.to_json()


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def without_times(folder: Path) -> dict[str, str]:
    """Hash every artifact; console.log and the elapsed times are what may differ."""
    hashes = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        if file.name == "console.log":
            continue
        if file.name == "iteration_index.json":
            index = json.loads(content)
            del index["elapsed_seconds"], index["elapsed_by_stage"]
            content = json.dumps(index).encode()
        hashes[file.name] = hashlib.sha256(content).hexdigest()
    return hashes


def test_the_same_setting_twice_gives_the_same_artifacts(tmp_path: Path) -> None:
    shuffled = """import torch
    from tests.networks import calibration_images
    from torch.utils.data import DataLoader
    return DataLoader(calibration_images(64), batch_size=16, shuffle=True)"""
    contract = write_contract(tmp_path, calibration=shuffled)
    options = RunOptions(with_info=True)
    for outputs in ("a", "b"):
        run(contract, tmp_path / outputs / "iter_1", options, tqt_optimization=TQT)
    first, second = (without_times(tmp_path / outputs / "iter_1") for outputs in ("a", "b"))
    assert first == second
    assert {"model.espdl", "model.info", "model.json"} <= set(first)


@pytest.mark.parametrize(
    "fields",
    [{"tqt_optimization": TQT}, {"blockwise_reconstruction": {"enabled": True, "steps": 3}}],
    ids=lambda fields: "+".join(fields),
)
def test_a_run_with_less_memory_gives_the_same_artifacts(
    tmp_path: Path, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from espdl_quantize.ppq import _spill

    monkeypatch.setattr(_spill, "_SMALLEST", 1)
    tune_shortly(monkeypatch)
    contract = write_contract(
        tmp_path, model="from tests.networks import network\n    return network('residual')"
    )
    run(contract, tmp_path / "a" / "iter_1", **fields)
    run(contract, tmp_path / "b" / "iter_1", RunOptions(reduced_memory=True), **fields)
    first, second = (without_times(tmp_path / outputs / "iter_1") for outputs in ("a", "b"))
    # It says so of itself.
    del first["iteration_index.json"], second["iteration_index.json"]
    assert first == second
    assert read(tmp_path / "b" / "iter_1", "iteration_index.json")["reduced_memory"] is True


def test_another_process_gives_the_same_model(tmp_path: Path) -> None:
    contract = write_contract(tmp_path)
    run(contract, tmp_path / "a" / "iter_0")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "espdl_quantize", "run", str(contract), "--json"),
            *("--output-dir", str(tmp_path / "b" / "iter_0"), "--baseline"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ok"
    assert without_times(tmp_path / "a" / "iter_0") == without_times(tmp_path / "b" / "iter_0")


DEMO = ROOT / "examples/fashion_mnist/user_quant.py"


@pytest.mark.parametrize(
    ("case", "target", "engine"),
    thinned(
        product(
            ["residual network with TQT", "demo"], ["esp32s3", "esp32p4"], ["reference", "fast"]
        )
    ),
)
def test_everything_equals_plain_esp_ppq(
    tmp_path: Path, case: str, target: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public calls that a user would write give the same bytes and the same numbers.

    On the fast engine the layerwise errors alone may differ, by no more than 1e-4 of them.

    Plain esp-ppq orders its tensors by Python's hash seed, so that its own bytes differ from
    process to process; that order alone is fixed for it here.
    """
    import torch
    from esp_ppq.api import espdl_quantize_torch, interface
    from esp_ppq.api.setting import QuantizationSettingFactory
    from esp_ppq.quantization.analyse import (
        graphwise_error_analyse,
        layerwise_error_analyse,
        statistical_analyse,
    )

    from espdl_quantize.ppq import parse_onnx, seed_everything
    from espdl_quantize.ppq.patches import When, installed

    monkeypatch.setenv("ESPDL_TARGET", target)
    setting = QuantizationSettingFactory.espdl_setting()
    fields: dict[str, Any] = {}
    path = DEMO
    if case != "demo":
        fields = {"tqt_optimization": TQT}
        path = write_contract(
            tmp_path,
            config={**CONFIG, "target": target},
            model="from tests.networks import network\n    return network('residual')",
            evaluate="from tests.networks import output_error\n"
            "    return {'top1': output_error('residual', quant_graph, 64)}",
        )
        setting.tqt_optimization = True
        setting.tqt_optimization_setting.steps = TQT["steps"]
        setting.tqt_optimization_setting.lr = TQT["lr"]
        setting.tqt_optimization_setting.collecting_device = "cpu"
    elif target == "esp32p4":
        # kl leaves a channel of the demo that this chip would have to shift left.
        fields = {"calib_algorithm": "minmax"}
        setting.quantize_activation_setting.calib_algorithm = "minmax"
    folder = tmp_path / "outputs" / "iter_1"
    index = run(path, folder, RunOptions(engine=engine), **fields)

    contract = load_contract(path, target_names())
    batches = read_batches(contract)
    monkeypatch.setattr(
        interface, "load_onnx_graph", lambda onnx_import_file: parse_onnx(Path(onnx_import_file))
    )
    seed_everything(0)
    graph = espdl_quantize_torch(
        model=contract.call("get_torch_model"),
        espdl_export_file=str(tmp_path / "plain.espdl"),
        calib_dataloader=[batch.as_esp_ppq() for batch in batches],
        calib_steps=contract.config.calib_steps,
        input_shape=[1, 1, 28, 28],
        inputs=[torch.zeros(1, 1, 28, 28)],
        target=target,
        setting=setting,
        collate_fn=lambda batch: batch,
        error_report=False,
        export_config=False,
    )
    assert (folder / "model.espdl").read_bytes() == (tmp_path / "plain.espdl").read_bytes()
    common = {
        "graph": graph,
        "running_device": "cpu",
        "dataloader": [batch.as_esp_ppq() for batch in batches],
        "steps": contract.config.analyse_steps,
    }
    layerwise = layerwise_error_analyse(**common)
    if engine == "fast":
        layerwise = pytest.approx(layerwise, rel=1e-4, abs=1e-11)
    assert read(folder, "layerwise_error.json") == layerwise
    assert read(folder, "graphwise_error.json") == graphwise_error_analyse(**common)
    with installed(When.ANALYSIS):
        statistics = statistical_analyse(**common)
    plain = json.loads(json.dumps(statistics).replace("NaN", "null"))
    assert read(folder, "layer_stats_full.json") == plain
    assert index["primary_value"] == contract.call("evaluate", graph)["top1"]


def test_analysis_leaves_the_graph_as_it_was(tmp_path: Path) -> None:
    from espdl_quantize.ppq import FastEngine, export, prepare_float_model, probe_target, quantize
    from espdl_quantize.setting import resolve

    contract = load_contract(write_contract(tmp_path), target_names())
    batches = read_batches(contract)
    model = prepare_float_model(contract, tmp_path)
    setting = parse_setting({"iteration_id": 0, "tqt_optimization": TQT})
    resolved = resolve(setting, probe_target("esp32s3"))
    quantized = quantize(model, contract.config, resolved, batches, NoProgress())
    export(quantized, tmp_path / "before.espdl")
    FastEngine().measure(quantized.graph, batches, "cpu", 2, NoProgress())
    export(quantized, tmp_path / "after.espdl")
    assert (tmp_path / "before.espdl").read_bytes() == (tmp_path / "after.espdl").read_bytes()


PASSES: list[dict[str, Any]] = [
    {"calib_algorithm": "mse"},
    {"calib_algorithm": "percentile"},
    {"calib_algorithm": "minmax"},
    {"equalization": {"enabled": True, "opt_level": 2}},
    {"bias_correct": {"enabled": True}},
    {
        "weight_split": {
            "enabled": True,
            "interested_layers": ["/stem/Conv"],
            "value_threshold": 0.1,
        }
    },
    {"blockwise_reconstruction": {"enabled": True, "steps": 3}},
    {"tqt_optimization": TQT, "blockwise_reconstruction": {"enabled": True, "steps": 3}},
    {"fusion_alignment": {"align_elementwise_to": "Align to Large"}},
    {"dispatching_table": [{"op": "/stem/Conv", "bits": 16}]},
    {"lsq_optimization": {"enabled": True, "steps": 3}},
    {"extra": {"lut_optimization": False}},
]


@pytest.mark.parametrize("fields", PASSES, ids=lambda fields: "+".join(fields))
def test_every_pass_runs_to_a_model(
    tmp_path: Path, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tune_shortly(monkeypatch)
    folder = tmp_path / "outputs" / "iter_1"
    index = run(write_contract(tmp_path), folder, **fields)
    assert index["status"] == "ok"
    assert (folder / "model.espdl").stat().st_size > 1000
    summary = read(folder, "applied_setting_summary.json")
    if "lsq_optimization" in fields:
        assert summary["esp_ppq_setting"]["lsq_optimization"] is False
        assert "LSQ" in index["applied_setting_warnings"][0]
    if "dispatching_table" in fields:
        statistics = read(folder, "layer_stats_full.json")
        worst = {row["Op name"]: row["Noise:Signal Power Ratio"] for row in statistics}
        assert worst["/stem/Conv"] < 1e-4  # 16 bits leave far less noise than 8


def test_an_unknown_dispatched_op_is_named_with_its_neighbours(tmp_path: Path) -> None:
    index = run(
        write_contract(tmp_path),
        tmp_path / "outputs" / "iter_1",
        dispatching_table=[{"op": "/stem/Conw", "bits": 16}],
    )
    assert "'/stem/Conw'" in index["applied_setting_warnings"][0]
    assert "/stem/Conv" in index["applied_setting_warnings"][0]


FAILURES: dict[str, tuple[dict[str, Any], str, int]] = {
    "evaluate raises": ({"evaluate": "raise ValueError('boom')"}, "boom", 3),
    "NaN metric": ({"evaluate": "return {'top1': float('nan')}"}, "nan", 3),
    "missing metric": ({"evaluate": "return {'top5': 1}"}, "no 'top1'", 3),
    "empty loader": ({"calibration": "return []"}, "not one batch", 3),
    "wrong shape": ({"config": {**CONFIG, "input_shape": [1, 28, 27]}}, "input_shape", 3),
    "no CUDA": ({"config": {**CONFIG, "device": "cuda"}}, "no CUDA device", 6),
    "unsupported op": (
        {
            "model": "import torch\n"
            "    class Odd(torch.nn.Module):\n"
            "        def forward(self, x):\n"
            "            return torch.linalg.det(x @ x)\n"
            "    return Odd().eval()"
        },
        "Det",
        5,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_so_in_the_folder(tmp_path: Path, name: str) -> None:
    import torch

    parts, told, code = FAILURES[name]
    if name == "no CUDA" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    folder = tmp_path / "outputs" / "iter_0"
    contract = write_contract(tmp_path, **parts)
    with pytest.raises(EspdlQuantizeError) as caught:
        run(contract, folder)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == code
    index = read(folder, "iteration_index.json")
    assert index["status"] == "failed"
    assert index["primary_value"] is None
    assert index["error"]["cause"] == caught.value.cause
    assert told in read(folder, "metrics.json")["_error"]
    assert read(folder, "metrics.json")["_primary_value"] is None
    assert "Traceback" in (folder / "console.log").read_text()
    assert not (folder / "float_model.onnx").exists()
    # Nothing was quantized for it.
    assert not (folder / "simplified_ops.json").exists()
    # A failed iteration may be tried again without being told to overwrite it.
    if name == "evaluate raises":
        run(write_contract(tmp_path), folder)
        assert read(folder, "iteration_index.json")["status"] == "ok"


IS_QUANTIZED = RUN + (
    "from esp_ppq.IR import QuantableOperation as Q\n"
    "    quantized = any(isinstance(op, Q) for op in quant_graph.operations.values())\n"
)


def test_an_evaluation_that_fails_keeps_what_explains_the_model(tmp_path: Path) -> None:
    evaluate = (
        IS_QUANTIZED + "    if quantized: raise ValueError('boom')\n    return {'top1': 90.0}"
    )
    folder = tmp_path / "outputs" / "iter_0"
    with pytest.raises(EspdlQuantizeError, match="boom"):
        run(write_contract(tmp_path, evaluate=evaluate), folder)
    assert (folder / "layerwise_error.json").exists()
    assert (folder / "model.espdl").exists()
    assert read(folder, "iteration_index.json")["error"]["stage"] == "evaluate"


def test_a_contract_that_scores_only_quantized_graphs_runs(
    tmp_path: Path,
) -> None:
    evaluate = IS_QUANTIZED + "    assert quantized\n    return {'top1': 90.0}"
    contract, folder = write_contract(tmp_path, evaluate=evaluate), tmp_path / "outputs" / "iter_0"
    with pytest.raises(EspdlQuantizeError, match="no_float_score=True") as caught:
        run(contract, folder)
    assert caught.value.exit_code == 3
    index = run(contract, folder, RunOptions(score_float=False))
    assert (index["primary_value"], index["float_value"]) == (90.0, None)


def test_the_float_model_is_scored_once_per_folder(
    tmp_path: Path,
) -> None:
    evaluate = (
        "from pathlib import Path\n"
        "    from tests.networks import agreement\n"
        "    with open(Path(__file__).parent / 'calls', 'a') as file:\n"
        "        file.write('x')\n"
        "    return {'top1': agreement(quant_graph, 64)}"
    )
    contract = write_contract(tmp_path, evaluate=evaluate)

    def calls() -> int:
        return len((tmp_path / "calls").read_text())

    outputs = tmp_path / "outputs"
    assert run(contract, outputs / "iter_0")["float_value"] == 100.0
    before = calls()
    # Another setting: one that changes nothing would not be scored at all.
    assert run(contract, outputs / "iter_1", calib_algorithm="minmax")["float_value"] == 100.0
    assert calls() == before + 1
    model = "from tests.networks import network\n    return network('residual')"
    contract = write_contract(tmp_path, evaluate=evaluate, model=model)
    with pytest.raises(OutputFolderError, match="was edited since"):
        run(contract, outputs / "iter_2")
    assert not (outputs / "iter_2").exists()
    assert calls() == before + 1
    assert run(contract, tmp_path / "others" / "iter_0")["float_value"] < 100.0
    assert calls() >= before + 3


def test_full_eval_compares_with_the_full_float_score(tmp_path: Path) -> None:
    fast = f"def evaluate_fast(quant_graph):\n    {RUN}return {{'top1': 12.0}}\n"
    contract = write_contract(tmp_path, extra=fast)
    index = run(contract, tmp_path / "outputs" / "iter_0")
    assert (index["evaluated_by"], index["primary_value"], index["float_value"]) == (
        "evaluate_fast",
        12.0,
        12.0,
    )
    index = run(contract, tmp_path / "outputs" / "iter_1", RunOptions(full_eval=True))
    assert (index["evaluated_by"], index["float_value"]) == ("evaluate", 100.0)


def test_a_setting_may_lie_in_the_folder_that_it_fills(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "outputs" / "iter_3"
    folder.mkdir(parents=True)
    (folder / "setting.json").write_text('{"iteration_id": 1, "calib_algorithm": "mse"}')
    arguments = ["run", write_contract(tmp_path), "--setting", folder / "setting.json"]
    arguments += ["--output-dir", folder, "--in-process"]
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "esp-ppq" not in done.stdout + done.stderr
    assert "Calibration Progress" in (folder / "console.log").read_text()
    # The folder's name is what the history counts by.
    assert read(folder, "iteration_index.json")["iteration_id"] == 3
    again = command(*arguments)
    assert again.returncode == 7
    assert "--overwrite" in again.stderr


def begin(contract: Path, folder: Path) -> "subprocess.Popen[str]":
    """Start a run whose evaluate sleeps, and wait until it does."""
    command = [sys.executable, "-m", "espdl_quantize", "run", str(contract), "--baseline"]
    process = subprocess.Popen(
        [*command, "--output-dir", str(folder)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has Ctrl-C ignored, also by its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(600):
        if (contract.parent / "evaluating").exists():
            return process
        time.sleep(0.1)
    raise AssertionError("the run did not get to its evaluation")


SLEEPS = (
    "from pathlib import Path\n    import time\n"
    "    (Path(__file__).parent / 'evaluating').touch()\n    time.sleep(60)"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_half_written_folder(
    tmp_path: Path, number: signal.Signals
) -> None:
    outputs = tmp_path / "outputs"
    process = begin(write_contract(tmp_path, evaluate=SLEEPS), outputs / "iter_0")
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert not any(entry.is_dir() for entry in outputs.iterdir())


def test_a_killed_run_leaves_the_folder_free_for_the_next(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    contract = write_contract(tmp_path, evaluate=SLEEPS)
    process = begin(contract, outputs / "iter_0")
    with pytest.raises(OutputFolderError, match=f"process {process.pid}"):
        run(contract, outputs / "iter_1")
    process.kill()
    process.communicate()
    assert not (outputs / "iter_0").exists()
    run(write_contract(tmp_path), outputs / "iter_0")
    assert sorted(entry.name for entry in outputs.glob("*iter*")) == ["iter_0"]


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(EspdlQuantizeError, match=r"disk that holds .* is full") as caught:
            run(write_contract(tmp_path), disk / "iter_0")
        assert caught.value.exit_code == 5
        if (disk / "iter_0").exists():
            assert read(disk / "iter_0", "iteration_index.json")["status"] == "failed"
        assert not list(disk.glob(".iter_0*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
