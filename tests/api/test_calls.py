"""The calls from Python, on objects and on a contract file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import espdl_quantize as eq
from espdl_quantize.core import (
    ContractError,
    EspdlQuantizeError,
    OutputFolderError,
    SettingError,
    UsageError,
)
from tests.networks import calibration_images, depthwise_cnn, held_out_images

TARGET: dict[str, Any] = {"target": "esp32s3"}


def wanted(count: int) -> Tensor:
    with torch.no_grad():
        decided: Tensor = depthwise_cnn()(held_out_images(count)).argmax(dim=1)
    return decided


def agreement(graph: Any) -> float:
    outputs = eq.forward(graph, [held_out_images(64)])
    return 100 * float((next(iter(outputs))[0].argmax(dim=1) == wanted(64)).float().mean())


def labelled() -> DataLoader[tuple[Tensor, ...]]:
    images = calibration_images(64)
    return DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=16)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> eq.Result:
    return eq.tune(
        model=depthwise_cnn(),
        calibration=labelled(),
        evaluate=agreement,
        outputs=tmp_path_factory.mktemp("search") / "outputs",
        iterations=1,
        progress=False,
        **TARGET,
    )


def test_a_search_on_objects_ends_with_a_model(searched: eq.Result) -> None:
    assert searched.model is not None and searched.model.stat().st_size > 1000
    assert searched.best is not None and searched.best.value is not None
    assert searched.best.value > 50
    assert searched.float_value == 100.0
    assert searched.stop is not None and searched.stop[0] == "budget_reached"


def test_labels_behind_the_inputs_are_left_out(searched: eq.Result) -> None:
    assert searched.best is not None
    assert searched.best.contract_path is None
    assert "calibration images" not in repr(searched)


def test_the_same_call_goes_on(searched: eq.Result) -> None:
    again = eq.tune(
        model=depthwise_cnn(),
        calibration=labelled(),
        evaluate=agreement,
        outputs=searched.folder,
        time="0.001",
        progress=False,
        **TARGET,
    )
    assert len(again.rows) == len(searched.rows)


def test_another_evaluation_is_another_search(searched: eq.Result) -> None:
    with pytest.raises(OutputFolderError, match="edited"):
        eq.tune(
            model=depthwise_cnn(),
            calibration=labelled(),
            evaluate=lambda graph: agreement(graph) / 2,
            outputs=searched.folder,
            progress=False,
            **TARGET,
        )


def test_one_setting_becomes_the_next_iteration(searched: eq.Result, tmp_path: Path) -> None:
    iteration = eq.quantize(
        {"calib_algorithm": "minmax"},
        model=depthwise_cnn(),
        calibration=labelled(),
        evaluate=lambda graph: {"agreement": agreement(graph), "half": 50},
        metric="agreement",
        outputs=tmp_path,
        progress=False,
        **TARGET,
    )
    assert iteration.id == 0 and iteration.metric == "agreement"
    assert (iteration.folder / "model.espdl").is_file()
    assert iteration.setting is not None and iteration.setting.calib_algorithm == "minmax"


def test_a_folder_shows_itself(searched: eq.Result) -> None:
    result = eq.load(searched.folder)
    assert "★" in result._repr_html_() and "best: iter_0" in repr(result)
    page = result.report()
    assert page.is_file() and "<html" in page.read_text()


def test_a_search_becomes_a_data_frame(searched: eq.Result) -> None:
    pytest.importorskip("pandas")
    frame = searched.to_pandas()
    assert searched.best is not None
    assert frame.loc[searched.best.id, "primary_value"] == searched.best.value
    assert "signals" not in frame.columns


def test_a_check_says_what_holds() -> None:
    checked = eq.check(
        model=depthwise_cnn(),
        calibration=labelled(),
        evaluate=agreement,
        progress=False,
        **TARGET,
    )
    assert checked and "the contract holds" in repr(checked)


def test_a_check_names_every_fault() -> None:
    checked = eq.check(
        model=depthwise_cnn(),
        calibration=labelled(),
        evaluate=lambda graph: float("nan"),
        progress=False,
        **TARGET,
    )
    assert not checked and "nan" in repr(checked)
    assert "does not hold" in checked._repr_html_()
    with pytest.raises(ContractError):
        checked.raise_for_faults()


def test_a_contract_file_is_one_argument(tmp_path: Path) -> None:
    path = tmp_path / "user_quant.py"
    path.write_text("QUANT_CONFIG = {}\n")
    checked = eq.check(path, progress=False)
    assert not checked and "input_shape" in repr(checked)
    outputs, calls = tmp_path / "outputs", (eq.check, eq.tune, eq.quantize)
    for call in calls:
        places: dict[str, Any] = {} if call is eq.check else {"outputs": outputs}
        for version, told in (("latest", "no version"), ("2.0.0", "or later"), (3, "int")):
            with pytest.raises(EspdlQuantizeError, match=told):
                call(contract=path, esp_dl_version=version, progress=False, **places)
    assert not outputs.exists()


def batches() -> Iterator[Tensor]:
    yield from torch.split(calibration_images(32), 8)


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"model": 3}, ContractError, "model is a int"),
        ({"model": "no.onnx"}, ContractError, "no.onnx"),
        ({"calibration": batches()}, ContractError, "only once"),
        ({"calibration": 7}, ContractError, "calibration is a int"),
        ({"calibration": []}, ContractError, "empty"),
        ({"calibration": [torch.zeros(4)]}, ContractError, "no axis"),
        ({"calibration": [{"a": "b"}]}, ContractError, "collate"),
        ({"target": "esp32x"}, ContractError, "esp32x"),
        ({"target": None}, UsageError, "target is missing"),
        ({"model": None}, UsageError, "model is missing"),
        ({"num_of_bits": 4}, ContractError, "num_of_bits"),
        ({"contract": "user_quant.py"}, UsageError, "all of it"),
        ({"esp_dl_version": "3"}, ContractError, "expected a version of ESP-DL"),
        ({"esp_dl_version": "1.0.0"}, ContractError, "three numbers from 3.0.0 on"),
        ({"esp_dl_version": 3.3}, EspdlQuantizeError, "esp_dl_version"),
        ({"contract": depthwise_cnn()}, UsageError, "a network as model="),
        ({"metrics": "top1"}, UsageError, "did you mean metric for metrics"),
        ({"iterations": "3"}, UsageError, "iterations is '3'"),
        ({"iterations": 2.5}, UsageError, "whole number"),
        ({"time": "20 minutes"}, UsageError, "write 45m"),
        ({"seed": -1}, UsageError, "seed is -1"),
        ({"seed": "x"}, UsageError, "seed is 'x'"),
        ({"engine": "slow"}, UsageError, "one of fast, reference"),
        ({"outputs": 7}, UsageError, "outputs is a int"),
        ({"evaluate": 91.3}, ContractError, "evaluate is a float"),
        ({"calibration": "data/"}, ContractError, "calibration is a str"),
        ({"calibration": torch.zeros(8, 3, 32, 32)}, ContractError, "calibration.split"),
        ({"calibration": np.zeros((8, 3, 32, 32))}, ContractError, "from_numpy"),
        ({"calibration": list(calibration_images(4))}, ContractError, "of one sample"),
    ],
)
def test_what_is_wrong_is_named(
    changed: dict[str, Any], error: type[Exception], named: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {
        "model": depthwise_cnn(),
        "calibration": batches,
        "evaluate": agreement,
        **TARGET,
        "outputs": tmp_path,
        "progress": False,
    }
    with pytest.raises(error, match=named):
        eq.tune(**(arguments | changed))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returned a NoneType, expected a number"),
        ((91.0, 1), "returned a tuple"),
        (torch.zeros(3), r"Tensor of the shape \[3\]"),
        ({"a": 1.0, "b": 2.0}, "name the one to improve by metric="),
    ],
)
def test_what_evaluate_returns_is_named_as_the_call_takes_it(returned: Any, said: str) -> None:
    checked = eq.check(
        model=depthwise_cnn(),
        calibration=labelled(),
        evaluate=lambda graph: [agreement(graph), returned][1],
        progress=False,
        **TARGET,
    )
    assert not checked
    (finding,) = [each for each in checked.gate.findings if "evaluate() returned" in str(each)]
    assert re.search(said, str(finding))


def test_a_traced_network_runs() -> None:
    traced = torch.jit.trace(depthwise_cnn(), calibration_images(1))  # type: ignore[no-untyped-call]
    checked = eq.check(
        model=traced, calibration=labelled(), evaluate=agreement, progress=False, **TARGET
    )
    assert checked, checked


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="calib_algorithm"):
        eq.quantize(
            {"calib_algorithmus": "kl"},
            model=depthwise_cnn(),
            calibration=batches,
            evaluate=agreement,
            outputs=tmp_path,
            progress=False,
            **TARGET,
        )


class _TwoInputs(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def test_inputs_are_as_many_as_the_network_takes(tmp_path: Path) -> None:
    first, second = calibration_images(16), held_out_images(16)
    checked = eq.check(
        model=_TwoInputs(),
        calibration=[(first, second, torch.zeros(16))],
        evaluate=lambda graph: float(next(eq.forward(graph, [[first, second]]))[0].mean()),
        score=False,
        progress=False,
        **TARGET,
    )
    assert "runs" in repr(checked) or checked


def test_a_bar_leaves_the_terminal_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    eq.check(model=depthwise_cnn(), calibration=labelled(), evaluate=agreement, **TARGET)
    assert "Traceback" not in capfd.readouterr().err
