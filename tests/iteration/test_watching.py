"""What is seen of an evaluation, on a graph that esp-ppq runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from espdl_quantize.contract import Batch, load_contract
from espdl_quantize.core import IterationError
from espdl_quantize.iteration._float_reference import FloatReference
from espdl_quantize.iteration._score import facts_of, meter_of, score
from espdl_quantize.iteration._signals import FloatOutputs, SignalMeter, Watcher
from espdl_quantize.ppq import batch_digests, parse_onnx, prepare_float_model, watched
from tests.contracts import CONFIG, write_contract
from tests.networks import calibration_images, held_out_images
from tests.there import there

EVALUATE = """from tests.networks import held_out_images
    from esp_ppq.executor import TorchExecutor
    run, seen = TorchExecutor(graph=quant_graph, device="cpu"), []
    for batch in held_out_images(60).split(25):
        seen += run(batch)[0].argmax(1).tolist()
    right = [float(one % 2) for one in seen]
    return {"top1": 100.0 * sum(right) / 60, "per_sample": right}"""


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Any, Any, Any]:
    contract = load_contract(write_contract(tmp_path, evaluate=EVALUATE), ["esp32s3"])
    return contract, *_graphs(contract, tmp_path)


def _graphs(contract: Any, folder: Path) -> tuple[Any, Any]:
    model = prepare_float_model(contract, folder)
    graphs = []
    for _ in range(2):
        graph = model.load()
        graphs.append(graph)
    # The second is the first with a little noise, as a quantized graph is.
    for name, variable in graphs[1].variables.items():
        if variable.is_parameter and variable.value.is_floating_point():
            torch.manual_seed(len(name))
            variable.value += (
                0.02 * variable.value.std(unbiased=False) * torch.randn(variable.value.shape)
            )
    return model, tuple(graphs)


def test_the_signals_are_those_of_the_definition(tmp_path: Path, prepared: Any) -> None:
    from esp_ppq.executor import TorchExecutor
    from esp_ppq.quantization.measure import torch_snr_error

    contract, model, (exact, noisy) = prepared
    reference = FloatReference(tmp_path, contract, model)
    assert not reference.is_complete("evaluate")
    reference.store(score(contract, exact, full=True, make_watcher=lambda _: FloatOutputs()))
    assert reference.is_complete("evaluate")
    watch = meter_of(tmp_path, reference.key, noisy, set())
    scored = score(contract, noisy, full=True, make_watcher=watch)
    facts, told = facts_of(scored, set(), contract.config)
    assert told == []
    assert "per_sample" not in scored.metrics
    images = held_out_images(60)
    with torch.no_grad():
        parts = torch.split(images, 25)
        outputs = [
            torch.cat([TorchExecutor(graph, device="cpu")(part)[0] for part in parts])
            for graph in (noisy, exact)
        ]
    signals = facts.signals
    assert there(signals).samples == 60
    assert there(signals).noise_signal == pytest.approx(float(torch_snr_error(*outputs)), rel=1e-5)
    same = (outputs[0].argmax(1) == outputs[1].argmax(1)).float().mean()
    assert there(signals).agreement == pytest.approx(float(same))
    assert 0.9 < there(there(signals).outputs[0].cosine) < 1
    # Whether they are right in percent is known by the results: no key says so.
    assert (facts.sample_count, facts.metric_unit) == (60, "percent")


def test_of_another_contract_nothing_is_compared(tmp_path: Path, prepared: Any) -> None:
    contract, model, (exact, noisy) = prepared
    FloatReference(tmp_path, contract, model).store(
        score(contract, exact, full=True, make_watcher=lambda _: FloatOutputs())
    )
    scored = score(
        contract, noisy, full=True, make_watcher=meter_of(tmp_path, "another", noisy, set())
    )
    assert facts_of(scored, set(), contract.config)[0].signals is None


def test_calibration_samples_are_found_and_left_out(tmp_path: Path, prepared: Any) -> None:
    contract, model, (exact, noisy) = prepared
    reference = FloatReference(tmp_path, contract, model)
    reference.store(score(contract, exact, full=True, make_watcher=lambda _: FloatOutputs()))
    calibration = set(batch_digests(Batch.of(held_out_images(70)[45:]), ["image"]))
    scored = score(
        contract,
        noisy,
        full=True,
        make_watcher=meter_of(tmp_path, reference.key, noisy, calibration),
    )
    facts, told = facts_of(scored, calibration, contract.config)
    assert facts.samples_shared_with_calibration == 15
    assert there(facts.signals).samples == 45
    assert "15 of the 60 samples that were scored are calibration samples" in told[0]
    clean = set(batch_digests(Batch.of(calibration_images(64)), ["image"]))
    assert facts_of(scored, clean, contract.config)[0].samples_shared_with_calibration == 0


def test_other_graphs_and_copies(prepared: Any) -> None:
    from esp_ppq.executor import TorchExecutor

    _, model, (graph, _) = prepared
    original, watcher = TorchExecutor.forward, Watcher()
    other = parse_onnx(model.onnx_file)
    renamed = next(iter(other.outputs.values()))
    other.outputs.pop(renamed.name)
    other.outputs["teacher"] = renamed
    with pytest.raises(ZeroDivisionError), watched(graph, watcher):
        TorchExecutor(graph.copy(), device="cpu").forward(inputs=held_out_images(3))
        TorchExecutor(graph, device="cpu").forward([held_out_images(2)])
        assert len(watcher.digests) == 5
        assert watcher.digests[:2] == watcher.digests[3:]
        1 / 0  # noqa: B018
    assert TorchExecutor.forward is original


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("{'top1': 50.0, 'per_sample': [1, float('nan')]}", r"per_sample = an array of shape \[2"),
        ("{'top1': 50.0, 'per_sample': [[1, 0]]}", r"per_sample = an array of shape \[1, 2\]"),
        ("{'top1': 50.0, 'per_sample': 'right'}", "per_sample = 'right'"),
        ("{'top1': 50.0, 'sample_count': 0.5}", r"sample_count = 0\.5, expected a positive int"),
    ],
)
def test_what_is_no_result_per_sample_is_named(tmp_path: Path, returned: str, told: str) -> None:
    contract = load_contract(write_contract(tmp_path, evaluate=f"return {returned}"), ["esp32s3"])
    with pytest.raises(IterationError, match=told):
        score(contract, None, full=True)


@pytest.mark.parametrize(
    ("returned", "unit", "expected", "told"),
    [
        ("{'top1': 50.0, 'per_sample': [1, 0]}", None, ("percent", 100.0, 2), ""),
        ("{'top1': 0.5, 'per_sample': [1, 0]}", None, ("fraction", 1.0, 2), ""),
        ("{'top1': 0.0, 'per_sample': [0, 0]}", None, (None, None, 2), ""),
        ("{'top1': 0.0, 'per_sample': [0, 0]}", "percent", ("percent", 100.0, 2), ""),
        ("{'top1': 1.5, 'per_sample': [1.0, 2.0]}", None, (None, 1.0, 2), ""),
        ("{'top1': 7.5, 'per_sample': [1.0, 2.0]}", None, (None, None, 2), "not top1 7.5"),
        ("{'top1': 75.0, 'sample_count': 640}", None, (None, None, 640), ""),
        ("{'top1': 75.0, 'sample_count': 640}", "percent", ("percent", None, 640), ""),
        ("{'top1': 75.0}", "percent", ("percent", None, None), ""),
        ("{'top1': 175.0, 'sample_count': 640}", "percent", (None, None, 640), "no interval"),
    ],
)
def test_a_rate_is_known_and_never_guessed(
    tmp_path: Path, returned: str, unit: str | None, expected: tuple[object, ...], told: str
) -> None:
    config = CONFIG | {"metric_unit": unit}
    path = write_contract(tmp_path, config=config, evaluate=f"return {returned}")
    contract = load_contract(path, ["esp32s3"])
    facts, warnings = facts_of(score(contract, None, full=True), set(), contract.config)
    assert (facts.metric_unit, facts.per_sample_scale, facts.sample_count) == expected
    assert told in " ".join(warnings)
    assert bool(told) == bool(warnings)


def test_outputs_that_are_no_rows_are_not_compared() -> None:
    meter = SignalMeter(Path("nowhere"), "evaluate", "key", ["out"], set())
    meter([torch.ones(2, 3)], [torch.ones(7)])
    assert len(meter.digests) == 2
    assert meter.summary() is None
    assert meter.arrays() == {}
