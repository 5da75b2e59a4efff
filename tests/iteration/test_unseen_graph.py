"""An evaluation that never runs the graph is a fault; one that runs it in its own way is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from espdl_quantize.contract import load_contract
from espdl_quantize.core import EXIT_CONTRACT, ContractError
from espdl_quantize.iteration._score import score, score_float
from espdl_quantize.ppq import prepare_float_model, reads_of
from tests.contracts import write_contract

DECIDE = """from tests.networks import depthwise_cnn, held_out_images
    def rate(logits):
        right = [float(one % 2) for one in logits.argmax(1).tolist()]
        return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}
    images = held_out_images(60)
    """

NEVER = {
    "a constant": "return {'top1': 92.2}",
    "another model": DECIDE + "return rate(depthwise_cnn()(images))",
    "an executor that is never called": DECIDE
    + """from esp_ppq.executor import TorchExecutor
    TorchExecutor(graph=quant_graph, device="cpu")
    return rate(depthwise_cnn()(images))""",
    "a look at the graph": DECIDE
    + """print(len(quant_graph.operations))
    return rate(depthwise_cnn()(images))""",
}

RUNS = {
    "an executor": DECIDE
    + """from esp_ppq.executor import TorchExecutor
    return rate(TorchExecutor(graph=quant_graph, device="cpu").forward(images)[0])""",
    "a copy of the graph": DECIDE
    + """from esp_ppq.executor import TorchExecutor
    return rate(TorchExecutor(graph=quant_graph.copy(), device="cpu").forward(images)[0])""",
    "its own forward": DECIDE
    + """from esp_ppq.executor import TorchExecutor
    executor = TorchExecutor(graph=quant_graph, device="cpu")
    return rate(executor.forward_with_gradient(images)[0])""",
    "onnxruntime": DECIDE
    + """import onnxruntime, tempfile, torch
    from esp_ppq.api import export_ppq_graph
    from esp_ppq.core import TargetPlatform
    with tempfile.TemporaryDirectory() as folder:
        export_ppq_graph(quant_graph.copy(), TargetPlatform.ONNX, f"{folder}/model.onnx")
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
        name = session.get_inputs()[0].name
        found = [session.run(None, {name: one.numpy()})[0] for one in images.split(1)]
    return rate(torch.cat([torch.from_numpy(one) for one in found]))""",
    "another process": DECIDE
    + """import subprocess, sys, tempfile, torch
    from esp_ppq.api import export_ppq_graph
    from esp_ppq.core import TargetPlatform
    code = ("import sys, torch; from esp_ppq.api import load_native_graph; "
        "from esp_ppq.executor import TorchExecutor; "
        "run = TorchExecutor(graph=load_native_graph(sys.argv[1]), device='cpu'); "
        "torch.save(run.forward(torch.load(sys.argv[2]))[0], sys.argv[3])")
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}" for name in ("graph.native", "images", "logits")]
        export_ppq_graph(quant_graph.copy(), TargetPlatform.NATIVE, files[0])
        torch.save(images, files[1])
        subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True)
        logits = torch.load(files[2])
    return rate(logits)""",
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("graph")
    contract = load_contract(write_contract(folder), ["esp32s3"])
    return prepare_float_model(contract, folder).load()


@pytest.mark.parametrize("name", NEVER)
def test_one_that_never_runs_the_graph_is_a_fault(name: str, graph: Any, tmp_path: Path) -> None:
    contract = load_contract(write_contract(tmp_path, evaluate=NEVER[name]), ["esp32s3"])
    for scores in (score_float, score):
        with pytest.raises(ContractError, match=r"evaluate\(\) in user_quant.py never") as caught:
            scores(contract, graph, full=True)
        assert caught.value.exit_code == EXIT_CONTRACT
        assert "TorchExecutor(graph=quant_graph)" in caught.value.hint


@pytest.mark.parametrize("name", RUNS)
def test_one_that_runs_it_in_any_way_is_none(name: str, graph: Any, tmp_path: Path) -> None:
    contract = load_contract(write_contract(tmp_path, evaluate=RUNS[name]), ["esp32s3"])
    before = {key: one.value for key, one in graph.variables.items() if one.is_parameter}
    assert score_float(contract, graph, full=True).value > 0
    # The probe is of copies.
    assert all(graph.variables[key].value is value for key, value in before.items())


@pytest.mark.parametrize("used", ["evaluate_fast", "evaluate_final"])
def test_the_function_is_named(used: str, graph: Any, tmp_path: Path) -> None:
    extra = f"def {used}(quant_graph):\n    return {{'top1': 12.0}}\n"
    contract = load_contract(write_contract(tmp_path, extra=extra), ["esp32s3"])
    with pytest.raises(ContractError, match=rf"{used}\(\) in"):
        score_float(contract, graph, full=False, final=used == "evaluate_final")


def test_a_value_other_than_the_float_models_is_not_probed(graph: Any, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    evaluate = f"open({str(calls)!r}, 'a').write('x')\n    quant_graph.operations\n"
    evaluate += "    return {'top1': 50.0}"
    contract = load_contract(write_contract(tmp_path, evaluate=evaluate), ["esp32s3"])
    assert score(contract, graph, full=True, known=lambda _: 60.0).value == 50.0
    assert calls.read_text() == "x"
    with pytest.raises(ContractError):
        score(contract, graph, full=True, known=lambda _: 50.0)


def test_reading_is_noticed_and_nothing_is_left_behind(graph: Any) -> None:
    other, kind = graph.copy(), type(graph)
    with reads_of(graph) as reads:
        assert len(other.operations) > 1
        assert isinstance(graph, kind)
        assert not reads.any
        assert len(graph.operations) > 1
        assert reads.any
        assert "__getattribute__" not in kind.__dict__
    with pytest.raises(ZeroDivisionError), reads_of(graph) as reads:
        1 / 0  # noqa: B018
    assert not reads.any
    assert "__getattribute__" not in kind.__dict__
    with reads_of(torch.ones(1)) as reads:
        assert reads.any is None
