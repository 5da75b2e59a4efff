"""Nothing is doubted of what is sound: the examples, and the networks of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from espdl_quantize.core import FindingKind
from espdl_quantize.gate import STAGES, GateContext, GateOptions, GateReport, examine
from espdl_quantize.iteration import captured
from espdl_quantize.record.files import LOG
from tests.contracts import CONFIG, write_contract
from tests.networks import KINDS, SPECIAL
from tests.slow.test_inputs import CALIBRATION as STATES
from tests.slow.test_inputs import MODEL_BODY, NAMED

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN_DATA = {"efficientnet_lite0"}
"""Examples that need images of the user's."""

PROMISED = {
    "fashion_mnist": ("top1", 91.0),
    "scene_detector": ("map50", 70.0),
    "fashion_gru": ("top1", 87.0),
}
"""Of examples: the metric, and how much of it the README says that the float model has."""

SCORE = """import torch
    from esp_ppq.executor import TorchExecutor
    from tests.networks import held_out_images, network
    run = TorchExecutor(graph=quant_graph, device="cpu").forward
    right, model = [], network({kind!r})
    with torch.no_grad():
        for images in held_out_images(64){shaped}.split({size}):
            wanted, outputs = model(images), run(images)
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            right += torch.stack([
                a.flatten(1).argmax(1) == b.flatten(1).argmax(1) for a, b in zip(wanted, outputs)
            ]).all(0).float().tolist()
    return {{"agreement": sum(right) / len(right), "per_sample": right}}"""


def examined(path: Path, scratch: Path) -> GateReport:
    scratch.mkdir(exist_ok=True)
    with captured(scratch / LOG):
        return examine(GateContext(path, scratch, GateOptions()), STAGES)


def doubts(report: GateReport) -> list[str]:
    return [str(each) for each in report.findings if each.kind != FindingKind.NOTE]


CALIBRATION = """from tests.networks import calibration_images
    from torch.utils.data import DataLoader
    return DataLoader(calibration_images(64){shaped}, batch_size={size})"""
STREAMED = """import torch
    from esp_ppq.executor import TorchExecutor
    from tests.networks import held_out_images, network
    model, right = network("streaming"), []
    run = TorchExecutor(graph=quant_graph, device="cpu").forward
    for part in held_out_images(16).squeeze(1).split(4):
        state = exact = torch.zeros(1, 4, 16)
        for step in range(28):
            rows, rate = part[:, step], torch.ones(1)
            logits, state = run({"row": rows, "state": state, "rate": rate})
            with torch.no_grad():
                wanted, exact = model(rows, exact, rate)
        right += (logits.argmax(1) == wanted.argmax(1)).float().tolist()
    return {"agreement": sum(right) / len(right), "per_sample": right}"""
FRAMES = {"causal", "not causal"}
"""Networks that read an image as frames, [28, 28], without an axis of channels."""
ELSEWHERE = {"one class": "esp32p4", "lstm": "c"}
"""Networks that a quick run has on another chip."""
CASES = [
    pytest.param(kind, chip, marks=() if chip == quick else pytest.mark.matrix)
    for kind in (*KINDS, *SPECIAL)
    if kind != "streaming"
    for quick in [ELSEWHERE.get(kind, "esp32s3")]
    for chip in sorted({"esp32s3", quick} | ({"esp32p4"} if kind == "residual" else set()))
]


@pytest.mark.parametrize(("kind", "target"), CASES)
def test_a_sound_network_is_not_doubted(kind: str, target: str, tmp_path: Path) -> None:
    # onnxsim bakes the batch size into a Linear on 3-D inputs.
    size = 1 if kind == "transformer" else 16
    shaped = ".squeeze(1)" if kind in FRAMES else ""
    shape = [28, 28] if kind in FRAMES else CONFIG["input_shape"]
    config = {"primary_metric": "agreement", "target": target, "batch_size": size}
    config["input_shape"] = shape
    path = write_contract(
        tmp_path,
        config=CONFIG | config | {"calib_steps": 64 // size},
        calibration=CALIBRATION.format(size=size, shaped=shaped),
        model=f"from tests.networks import network\n    return network({kind!r})",
        evaluate=SCORE.format(kind=kind, shaped=shaped, size=size),
    )
    report = examined(path, tmp_path / "scratch")
    assert doubts(report) == []
    assert report.skipped == ()


def test_a_sound_model_with_a_state_is_not_doubted(tmp_path: Path) -> None:
    path = write_contract(
        tmp_path,
        prelude="import torch\n",
        config=NAMED | {"primary_metric": "agreement", "calib_steps": 16},
        calibration=STATES,
        model=MODEL_BODY,
        evaluate=STREAMED,
    )
    report = examined(path, tmp_path / "scratch")
    assert [each for each in doubts(report) if "few_calibration_samples" not in each] == []
    assert report.skipped == ()


@pytest.mark.parametrize("scale", [0.0, 0.02])
def test_a_loader_may_begin_with_silence(scale: float, tmp_path: Path) -> None:
    """The first batches of sequences are their first frames; what calibrates is all of them."""
    path = write_contract(
        tmp_path,
        config=CONFIG | {"primary_metric": "agreement", "batch_size": 32, "calib_steps": 4},
        calibration="from tests.networks import calibration_images\n"
        "    parts = list(calibration_images(96).split(32))\n"
        f"    return [parts[0] * {scale}, *parts]",
        model="from tests.networks import network\n    return network('depthwise')",
        evaluate=SCORE.format(kind="depthwise", shaped="", size=16),
    )
    assert doubts(examined(path, tmp_path / "scratch")) == []


@pytest.mark.parametrize(
    "name",
    [
        # The tutorial's test checks the first example, and what that prints.
        pytest.param(name, marks=pytest.mark.matrix if name == "fashion_mnist" else ())
        for name in sorted({path.parent.name for path in EXAMPLES.glob("*/user_quant.py")})
        if name not in OWN_DATA
    ],
)
def test_an_example_is_not_doubted(name: str, tmp_path: Path) -> None:
    report = examined(EXAMPLES / name / "user_quant.py", tmp_path / "scratch")
    assert doubts(report) == []
    assert report.skipped == ()
    assert report.error is None
    if name in PROMISED:
        metric, least = PROMISED[name]
        assert report.facts["metric"] == f"{metric} (max)"
        assert float(str(report.facts["float_value"])) > least


def test_a_metric_of_records_need_not_be_a_share_of_the_samples(tmp_path: Path) -> None:
    evaluate = SCORE.format(kind="depthwise", shaped="", size=16).replace(
        '"agreement": sum(right) / len(right), "per_sample": right',
        '"agreement": aggregate(records), "per_sample": records',
    )
    evaluate = evaluate.replace(
        "    return", "    records = [[each] for each in right]\n    return"
    )
    config = CONFIG | {"primary_metric": "agreement", "metric_unit": "fraction"}
    aggregate = "def aggregate(records):\n    return (sum(r[0] for r in records) + 0.3) / 65\n"
    path = write_contract(tmp_path, config=config, evaluate=evaluate, extra=aggregate)
    report = examined(path, tmp_path / "scratch")
    assert not [each for each in report.findings if each.code == "score_facts"]
