"""The recorded input and output are of a real sample, and the model is the deployed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from espdl_quantize.chip import chip_facts, read_model
from espdl_quantize.chip.integers import check_integers, to_integers
from espdl_quantize.contract import Batch, first_samples, load_contract
from espdl_quantize.core import NoProgress
from espdl_quantize.deploy import choose, problem_of, simulate, variety
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import export, prepare_float_model, probe_target, quantize, target_names
from espdl_quantize.report import compare
from espdl_quantize.setting import baseline, parse_setting, resolve
from tests.contracts import CONFIG, write_contract
from tests.networks import calibration_images

TWO_INPUTS = """import torch
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.image, self.row = torch.nn.Conv2d(1, 8, 3), torch.nn.Linear(28, 8)
        def forward(self, image, row):
            return self.image(image).mean(dim=(2, 3)) + self.row(row), self.row(row)
    return Net().eval()"""


def quantized(folder: Path, kind: str, target: str, bits: int) -> tuple[Any, list[Batch]]:
    """Return a quantized network and its calibration batches."""
    batch = calibration_images(4)
    config: dict[str, Any] = {**CONFIG, "target": target, "num_of_bits": bits, "batch_size": 1}
    model = f"from tests.networks import network\n    return network({kind!r})"
    batches = [Batch.of(batch[at : at + 1]) for at in range(len(batch))]
    if kind == "two inputs":
        config["input_shape"] = [[1, 28, 28], [28]]
        model = TWO_INPUTS
        batches = [Batch.of([image, image[:, 0, 3]]) for image in torch.split(batch, 1)]
    contract = load_contract(write_contract(folder, config=config, model=model), target_names())
    made = quantize(
        prepare_float_model(contract, folder),
        contract.config,
        # KL takes seconds for each tensor of 16 bits.
        resolve(
            parse_setting({"iteration_id": 0, "calib_algorithm": "kl" if bits == 8 else "minmax"}),
            probe_target(target, bits),
            "cpu",
        ),
        batches,
        NoProgress(),
    )
    return made, batches


@pytest.mark.parametrize(
    ("kind", "target", "bits"),
    [
        ("detector", "esp32s3", 8),
        ("detector", "esp32p4", 16),
        ("residual", "c", 8),
        ("transformer", "esp32p4", 8),
        ("lstm", "esp32s3", 8),
        ("two inputs", "esp32s3", 16),
        ("two inputs", "esp32p4", 8),
    ],
)
def test_the_copy_records_what_the_chip_should_give(
    tmp_path: Path, kind: str, target: str, bits: int
) -> None:
    model, batches = quantized(tmp_path, kind, target, bits)
    sample = first_samples(batches, 1)[0]
    values = simulate(model.graph, sample, "cpu")
    plain, file = tmp_path / "plain.espdl", tmp_path / "model.espdl"
    export(model, plain)
    layouts = export(model, file, test_values=values)
    assert file.read_bytes() == plain.read_bytes()
    copy, exported = read_model(tmp_path / "model_test.espdl"), read_model(file)
    assert problem_of(exported, tmp_path / "model_test.espdl", values, layouts, target) == ""

    facts = chip_facts(target)
    for name, tensor in sample.by_name(list(model.graph.inputs)).items():
        recorded = copy.test_inputs[name]
        expected = tensor.permute(layouts[name])
        if recorded.is_integer:
            assert recorded.exponents == exported.values[name].exponents
            exponent = recorded.exponent
            expected = to_integers(expected, exponent, recorded.dtype, facts.rounding)
        assert recorded.data.tolist() == expected.reshape(-1).tolist()
    assert set(copy.test_outputs) == set(exported.outputs)
    assert {tensor.dtype for tensor in copy.test_outputs.values()} <= {f"int{bits}", "float32"}
    # The integers of the file itself, each op fed by the one before, come to the recorded ones.
    integers = check_integers(exported, facts, model.graph, layouts, [sample])
    if not integers.skipped and bits == 8:
        assert integers.end_to_end is not None
        assert integers.end_to_end.exact == integers.end_to_end.outputs > 0


def test_another_model_or_value_is_found(tmp_path: Path) -> None:
    model, batches = quantized(tmp_path, "residual", "esp32s3", 8)
    values = simulate(model.graph, batches[0], "cpu")
    layouts = export(model, tmp_path / "model.espdl", test_values=values)
    exported, file = read_model(tmp_path / "model.espdl"), tmp_path / "model_test.espdl"
    content = file.read_bytes()

    other = simulate(model.graph, batches[1], "cpu")
    assert "not what the simulation gives" in problem_of(exported, file, other, layouts, "esp32s3")
    weights = next(tensor for tensor in exported.constants.values() if len(tensor.data) > 1000)
    place = content.index(weights.data.tobytes())
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert "another model" in problem_of(exported, file, values, layouts, "esp32s3")
    file.write_bytes(content[:-5])
    assert "cannot be read back" in problem_of(exported, file, values, layouts, "esp32s3")
    file.unlink()
    assert "could not record" in problem_of(exported, file, values, layouts, "esp32s3")


def test_a_sample_that_exercises_the_model_is_recorded(tmp_path: Path) -> None:
    model, batches = quantized(tmp_path, "residual", "esp32s3", 8)
    blank = [Batch.of(torch.zeros(1, 1, 28, 28))] * 3
    chosen = choose(model.graph, [*blank, batches[0]], "cpu")
    assert chosen is not None
    assert torch.equal(chosen[0].tensors[0], batches[0].tensors[0])
    assert choose(model.graph, [], "cpu") is None
    same = {"outputs": {"a": torch.full((9,), 3.0)}, "inputs": {"x": torch.arange(9.0)}}
    assert variety(same)[0] == 0
    # What is no number varies nothing, and of one number nothing can be said.
    nan = {"outputs": {"a": torch.full((9,), torch.nan)}, "inputs": {"x": torch.zeros(1)}}
    assert variety(nan) == (0, 0)


def test_values_that_cannot_be_recorded_cost_no_model(tmp_path: Path) -> None:
    model, _ = quantized(tmp_path, "residual", "esp32s3", 8)
    name = next(iter(model.graph.inputs))
    broken = {"inputs": {name: torch.zeros(1, 28)}, "outputs": {}}
    export(model, tmp_path / "plain.espdl")
    export(model, tmp_path / "model.espdl", test_values=broken)
    plain = (tmp_path / "plain.espdl").read_bytes()
    assert (tmp_path / "model.espdl").read_bytes() == plain
    assert not (tmp_path / "model_test.espdl").exists()
    # The exporter is esp-ppq's one of its kind: nothing of this may stay with it.
    export(model, tmp_path / "again.espdl")
    assert (tmp_path / "again.espdl").read_bytes() == plain


def test_best_has_the_copy_the_text_and_a_card(outputs: Path) -> None:
    compare(outputs, write_best=True)
    best, iteration = outputs / "best", outputs / "iter_0"
    for name in ("model.espdl", "model_test.espdl", "model.info"):
        assert (best / name).read_bytes() == (iteration / name).read_bytes()
    assert "/stem/Conv" in (best / "model.info").read_text()
    card = json.loads((best / "model.json").read_text())
    index = json.loads((iteration / "iteration_index.json").read_text())
    model = read_model(best / "model.espdl")
    (image,), (scores,) = card["inputs"], card["outputs"]
    assert (image["shape"], image["layout"]) == ([1, 28, 28, 1], "NHWC")
    assert image["exponent"] == model.values[image["name"]].exponent
    assert scores["scale"] == 2.0 ** model.values[scores["name"]].exponent
    assert image["calibration_sample"]["max"] <= 1.0
    assert card["op_widths"] == {"S8": len(model.nodes)}
    assert card["bytes"] == (best / "model.espdl").stat().st_size
    assert card["float_score"] == index["float_value"]
    assert card["quantized_score"] == index["primary_value"]
    assert card["setting"] == json.loads((iteration / "setting.json").read_text())
    assert card["test_values"]["integers"]["exact"] > 0


def test_a_run_may_leave_them_out(tmp_path: Path) -> None:
    contract = load_contract(write_contract(tmp_path), target_names())
    options = RunOptions(test_values=False, reuse=False)
    run_iteration(contract, baseline(), tmp_path / "outputs/iter_0", options, NoProgress())
    assert not (tmp_path / "outputs/iter_0/model_test.espdl").exists()
    card = json.loads((tmp_path / "outputs/iter_0/model_card.json").read_text())
    assert card["test_values"] is None
