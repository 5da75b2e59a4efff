"""The inputs that a model declares are held against the contract before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.gate import STAGES, GateContext, GateOptions, examine
from tests.contracts import CONFIG, write_contract
from tests.networks import export_network

ONNX = CONFIG | {"model_type": "onnx", "onnx_path": "net.onnx"}


def codes_of(folder: Path, **changed: Any) -> list[str]:
    path = write_contract(folder, **changed)
    report = examine(GateContext(path, folder, GateOptions(score=False)), STAGES)
    return [finding.code for finding in report.findings if finding.is_fault]


def test_a_contradicting_file_is_one_fault(tmp_path: Path) -> None:
    export_network("depthwise", tmp_path / "net.onnx")
    assert codes_of(tmp_path, config=ONNX) == []
    calibration = "import torch\n    return [torch.rand(16, 28, 28, 1) for _ in range(4)]"
    wrong = ONNX | {"input_shape": [28, 28, 1]}
    assert codes_of(tmp_path, config=wrong, calibration=calibration) == [
        "input_shape_contradicts_the_file"
    ]


def test_a_file_of_another_format_is_one_fault(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(60))
    assert codes_of(tmp_path, config=ONNX) == ["compare_the_inputs"]


@pytest.mark.parametrize("names", [None, ["x"], ["image"]])
def test_dicts_by_name(tmp_path: Path, names: list[str] | None) -> None:
    """forward's parameter is x; the exporter would call the input something else."""
    calibration = (
        "from tests.networks import calibration_images\n"
        "    return [{'%s': part} for part in calibration_images(64).split(16)]"
    )
    body = calibration % (names or ["x"])[0]
    config = CONFIG if names is None else CONFIG | {"input_shape": {names[0]: [1, 28, 28]}}
    found = codes_of(tmp_path, config=config, calibration=body)
    assert found == (["run_the_torch_model"] if names == ["image"] else [])


def test_a_contract_without_labels_has_no_finding(tmp_path: Path) -> None:
    config = {key: CONFIG[key] for key in CONFIG if not key.startswith(("primary", "metric_"))}
    path = write_contract(tmp_path, config=config)
    path.write_text(path.read_text().partition("def evaluate")[0])
    report = examine(GateContext(path, tmp_path), STAGES)
    # Three quarters of 64 samples are few.
    assert {each.code for each in report.findings} == {"few_calibration_samples", "held_out"}
    assert report.error is None
    assert str(report.facts["evaluated_by"]).endswith("no label is used")
