"""A contract without an evaluation is scored by agreement with its float model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.contract import Batch, Contract, ContractFaultsError, load_contract
from espdl_quantize.core import ContractError
from espdl_quantize.iteration import Prepared, score_float
from espdl_quantize.iteration._score import score
from espdl_quantize.iteration.unlabelled import FloatAgreement, hold_out
from espdl_quantize.ppq import batch_digests, seed_everything
from tests.contracts import CALIBRATION, CONFIG
from tests.networks import held_out_images
from tests.there import there

BARE = {
    key: value for key, value in CONFIG.items() if key not in ("primary_metric", "metric_direction")
}
SHUFFLED = CALIBRATION.replace("batch_size=16)", "batch_size=16, shuffle=True)")
SOFTMAX = """import torch
    from tests.networks import depthwise_cnn
    return torch.nn.Sequential(depthwise_cnn(), torch.nn.Softmax(1)).eval()"""
SCORING = """
def create_score_dataloader():
    from tests.networks import calibration_images, held_out_images
    yield calibration_images(8)
    yield held_out_images(24)
"""


def contract(
    folder: Path,
    *,
    model: str = SOFTMAX,
    calibration: str = SHUFFLED,
    extra: str = "",
    **config: Any,
) -> Contract:
    path = folder / "user_quant.py"
    path.write_text(
        f"QUANT_CONFIG = {BARE | config!r}\n"
        f"def create_calib_dataloader():\n    {calibration}\n"
        f"def get_torch_model():\n    {model}\n{extra}"
    )
    return load_contract(path, ["esp32s3"])


def digests(batches: list[Batch]) -> set[bytes]:
    return {digest for batch in batches for digest in batch_digests(batch, ["x"])}


def noisy(graph: Any, share: float) -> Any:
    torch.manual_seed(0)
    copy = graph.copy()
    for variable in copy.variables.values():
        if variable.is_parameter and variable.value.is_floating_point():
            variable.value = variable.value * (1 + share * torch.randn(variable.value.shape))
    return copy


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.randoms())
def test_what_scores_depends_on_no_order(values: list[int], random: Any) -> None:
    if len(set(values)) < 2:
        return

    def divided(order: list[int]) -> tuple[list[float], list[float]]:
        batches = [Batch.of(part) for part in torch.tensor(order).float().unsqueeze(1).split(7)]  # type: ignore[no-untyped-call]
        parts = hold_out(batches)
        first, second = (sorted(float(v) for b in part for v in b.tensors[0]) for part in parts)
        return first, second

    calibrating, scoring = divided(values)
    assert sorted(calibrating + scoring) == sorted(map(float, values))
    assert calibrating
    assert scoring
    assert not set(calibrating) & set(scoring)
    shuffled = values[:]
    random.shuffle(shuffled)
    assert divided(shuffled) == (calibrating, scoring)


def test_one_sample_cannot_be_divided() -> None:
    with pytest.raises(ContractError, match="no two different samples"):
        hold_out([Batch.of(torch.zeros(4, 3))])


def test_calibration_data_never_scores(tmp_path: Path) -> None:
    with Prepared(contract(tmp_path)) as prepared:
        parts = []
        for seed in (0, 1):
            seed_everything(seed)
            calibrating, _ = prepared.batches(seed, lambda done, total: None)
            agreement = there(prepared.agreement(seed))
            assert agreement.sample_count == 16
            assert "16 samples of create_calib_dataloader() score" in prepared.notes[0]
            parts.append((digests(calibrating), digests(agreement._batches)))
    assert parts[0] == parts[1]
    assert not parts[0][0] & parts[0][1]
    assert len(parts[0][0] | parts[0][1]) == 64


def test_a_loader_of_its_own_scores_less_what_calibrates(tmp_path: Path) -> None:
    with Prepared(contract(tmp_path, extra=SCORING)) as prepared:
        calibrating, _ = prepared.batches(0, lambda done, total: None)
        assert sum(batch.sample_count for batch in calibrating) == 64
        assert there(prepared.agreement(0)).sample_count == 24
        assert prepared.notes[0].startswith("8 samples of create_score_dataloader() are")


def test_the_metrics_are_those_of_their_definitions(tmp_path: Path) -> None:
    from esp_ppq.executor import TorchExecutor
    from esp_ppq.quantization.measure import torch_snr_error

    of = contract(tmp_path)
    with Prepared(of) as prepared:
        batches, _ = prepared.batches(0, lambda done, total: None)
        model, graph = prepared.float_model(batches[0])
        exact = score_float(of, graph, full=False, unlabelled=prepared.agreement(0))
        assert (exact.value, exact.used) == (0.0, "no_labels")
        assert exact.metrics["agreement_with_float"] == 100.0
        images = held_out_images(32)
        agreement = FloatAgreement(model, graph, [Batch.of(images)], "noise_vs_float")
        other = noisy(graph, 0.2)
        scored = score(of, other, full=False, unlabelled=agreement)
    outputs = [TorchExecutor(each, device="cpu")(images)[0] for each in (other, graph)]
    assert scored.value == pytest.approx(float(torch_snr_error(*outputs)), rel=1e-4)
    assert scored.per_sample.mean() == pytest.approx(scored.value)
    same = (outputs[0].argmax(1) == outputs[1].argmax(1)).float().mean()
    assert scored.metrics["agreement_with_float"] == pytest.approx(100 * float(same))
    cosine = torch.cosine_similarity(*outputs).mean()
    assert scored.metrics["cosine_with_float"] == pytest.approx(float(cosine), rel=1e-5)


def test_numbers_that_are_no_distribution_have_no_classes(tmp_path: Path) -> None:
    logits = "from tests.networks import depthwise_cnn\n    return depthwise_cnn()"
    of = contract(tmp_path, model=logits)
    with Prepared(of) as prepared:
        batches, _ = prepared.batches(0, lambda done, total: None)
        model, graph = prepared.float_model(batches[0])
        assert "agreement_with_float" not in there(prepared.agreement(0))(graph)
        # Whoever asks for it says that they are classes.
        asked = FloatAgreement(model, graph, batches, "agreement_with_float")
        assert asked(graph)["agreement_with_float"] == 100.0
        assert set(asked(graph)["per_sample"]) == {1.0}


def test_a_detector_has_no_agreement(tmp_path: Path) -> None:
    body = "from tests.networks import network\n    return network('detector')"
    of = contract(tmp_path, model=body, primary_metric="agreement_with_float")
    assert of.config.metric_unit == "percent"
    with (
        Prepared(of) as prepared,
        pytest.raises(ContractError, match=r"an output \[samples, classes\], and the model has"),
    ):
        prepared.agreement(0)


@pytest.mark.parametrize(
    ("config", "extra", "key", "found"),
    [
        ({"primary_metric": "top1", "metric_direction": "max"}, "", "evaluate()", "nothing"),
        ({}, "def evaluate_fast(graph): ...\n", "evaluate()", "nothing"),
        (
            {"primary_metric": "noise_vs_float", "metric_direction": "max"},
            "",
            'QUANT_CONFIG["metric_direction"]',
            "'max'",
        ),
        ({}, "create_score_dataloader = 3\n", "create_score_dataloader()", "a int"),
    ],
)
def test_an_evaluation_that_was_forgotten_is_a_fault(
    tmp_path: Path, config: dict[str, Any], extra: str, key: str, found: str
) -> None:
    with pytest.raises(ContractFaultsError) as caught:
        contract(tmp_path, extra=extra, **config)
    faults = {fault.key: fault for fault in caught.value.faults}
    assert found in faults[key].found
    if key == "evaluate()":
        assert "neither it nor primary_metric" in faults[key].expected


def test_silence_does_not_decide_alone(tmp_path: Path) -> None:
    """A sample whose float output is nearly zero has a noise that is divided by nearly nothing."""
    model = """import torch
    class Gain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((1, 1, 28, 28), 2.0))
        def forward(self, x):
            return (x * self.weight).flatten(1)
    return Gain().eval()"""
    of = contract(tmp_path, model=model)
    with Prepared(of) as prepared:
        batches, _ = prepared.batches(0, lambda done, total: None)
        float_model, graph = prepared.float_model(batches[0])
        loud, quiet = torch.ones(3, 1, 28, 28), torch.full((1, 1, 28, 28), 1e-4)
        agreement = FloatAgreement(
            float_model, graph, [Batch.of(torch.cat([loud, quiet]))], "noise_vs_float"
        )
        results = agreement(noisy(graph, 0.1))["per_sample"]
    assert results[3] < results[0]
