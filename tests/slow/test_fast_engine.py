"""The fast engine against plain esp-ppq, part by part, on every kind of network and two chips."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from esp_ppq.quantization.optim.legacy import AdaroundPass
from esp_ppq.quantization.optim.training import TrainedQuantizationThresholdPass

from espdl_quantize.cli.engines import TOLERANCE, largest_difference
from espdl_quantize.contract import read_batches
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.ppq import (
    QuantizedModel,
    engine_for,
    export,
    prepare_float_model,
    probe_target,
    quantize,
)
from espdl_quantize.ppq.fast.training import TqtTrainer
from espdl_quantize.ppq.measure import Measurements
from espdl_quantize.setting import parse_setting, resolve
from tests.matrix import thinned
from tests.networks import KINDS
from tests.slow.test_networks import contract_for

pytestmark = pytest.mark.slow

ENGINES = (Engine.REFERENCE, Engine.FAST)
TARGETS = ("esp32s3", "esp32p4")
RECURRENT = ("lstm", "gru")
"""Slow, since esp-ppq runs their cells in Python: on one chip alone."""

CASES = [(kind, target) for kind in KINDS for target in TARGETS if kind not in RECURRENT]
CASES += [(kind, TARGETS[0]) for kind in RECURRENT]
ONCE = (("residual", "esp32p4"), ("detector", "esp32s3"))
on_every_network = pytest.mark.parametrize(("kind", "target"), thinned(CASES))
trained_once = pytest.mark.parametrize(
    # tests/slow/test_passes.py trains every network by both engines, too, by fewer batches.
    ("kind", "target"),
    [
        pytest.param(kind, target, marks=() if (kind, target) in ONCE else pytest.mark.matrix)
        for kind, target in CASES
        # esp-ppq cannot train a block that ends in an LSTM, whose other outputs are not used.
        if kind != "lstm"
    ],
)


class Case:
    """One network on one chip, quantized by either engine."""

    def __init__(self, kind: str, target: str, folder: Path, device: str = "cpu") -> None:
        contract = contract_for(kind, "torch", target, folder, device)
        self.config, self.target = contract.config, target
        # Plain esp-ppq runs the whole graph again for each block and batch.
        self.batches = read_batches(contract)[:2]
        self.model = prepare_float_model(contract, folder)

    def quantized(self, engine: Engine, **fields: Any) -> QuantizedModel:
        setting = parse_setting({"iteration_id": 0, **fields})
        resolved = resolve(setting, probe_target(self.target), self.config.device)
        with engine_for(engine).install() as installed:
            return quantize(
                self.model, self.config, resolved, self.batches, NoProgress(), engine=installed
            )

    def measured(self, model: QuantizedModel, engine: Engine) -> Measurements:
        with engine_for(engine).install() as installed:
            return installed.measure(model.graph, self.batches, self.config.device, 1, NoProgress())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda kind, target: Case(kind, target, tmp_path_factory.mktemp(kind)))


def tune_shortly(patch: pytest.MonkeyPatch) -> None:
    """Take a few steps where esp-ppq tunes the scale of each layer's weights by 900.

    No setting reaches that number, no engine has a part in it, and it takes longer than all else of
    a blockwise reconstruction of a small network.
    """
    tune = AdaroundPass.tune_block_weight_scale
    patch.setattr(
        AdaroundPass, "tune_block_weight_scale", lambda self, block: tune(self, block, steps=20)
    )


def scales(model: QuantizedModel) -> dict[tuple[str, str, int], list[float]]:
    """Return every scale by op, variable and place."""
    found = {}
    for op in model.graph.operations.values():
        for place, (config, variable) in enumerate(getattr(op, "config_with_variable", ())):
            if isinstance(config.scale, torch.Tensor):
                found[op.name, variable.name, place] = config.scale.flatten().tolist()
    return found


def parameters(model: QuantizedModel) -> dict[str, torch.Tensor]:
    return {
        name: variable.value
        for name, variable in model.graph.variables.items()
        if variable.is_parameter and isinstance(variable.value, torch.Tensor)
    }


@on_every_network
def test_calibration_finds_the_same_scales(case: Any, kind: str, target: str) -> None:
    for calibration in ("kl",) if kind in RECURRENT else ("kl", "mse", "percentile", "minmax"):
        plain, fast = (
            case(kind, target).quantized(engine, calib_algorithm=calibration) for engine in ENGINES
        )
        assert scales(plain) == scales(fast)


@on_every_network
def test_the_analyses_agree(case: Any, kind: str, target: str, tmp_path: Path) -> None:
    model = case(kind, target).quantized(Engine.REFERENCE)
    plain, fast = (case(kind, target).measured(model, engine) for engine in ENGINES)
    assert list(plain.layerwise) == list(fast.layerwise)
    assert largest_difference(plain.layerwise, fast.layerwise) <= TOLERANCE
    # What is rounded is computed alike, so that these are equal to the last bit.
    assert fast.graphwise == plain.graphwise
    assert str(fast.statistics) == str(plain.statistics)  # a NaN does not equal itself


@on_every_network
def test_the_same_graph_becomes_the_same_file(
    case: Any, kind: str, target: str, tmp_path: Path
) -> None:
    model = case(kind, target).quantized(Engine.FAST)
    for engine in ENGINES:
        with engine_for(engine).install() as installed:
            export(model, tmp_path / f"{engine}.espdl", engine=installed, with_info=True)
    for suffix in (".espdl", ".info"):
        plain, fast = ((tmp_path / f"{engine}{suffix}").read_bytes() for engine in ENGINES)
        assert plain == fast


def steps_of(kind: str) -> int:
    return 4 if kind in ("lstm", "gru", "transformer") else 10  # those take long per step


@trained_once
def test_tqt_comes_as_near_to_the_float_blocks(
    case: Any, kind: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    for trainer in (TrainedQuantizationThresholdPass, TqtTrainer):
        finetune = trainer.finetune

        def noting(*given: Any, finetune: Any = finetune, **named: Any) -> Any:
            found = finetune(*given, **named)
            losses.extend(found)
            return found

        monkeypatch.setattr(trainer, "finetune", noting)
    found = []
    for engine in ENGINES:
        # At esp-ppq's own rate: steps a hundred times as wide as this go anywhere.
        training = {"enabled": True, "steps": steps_of(kind), "lr": 1e-5}
        case(kind, target).quantized(engine, tqt_optimization=training)
        found.append(losses[:])
        losses.clear()
    assert found[0]
    assert found[1] == pytest.approx(found[0], rel=0.01)


@trained_once
def test_bias_correction_finds_the_same_biases(case: Any, kind: str, target: str) -> None:
    same_weights(case(kind, target), bias_correct={"enabled": True})


@pytest.mark.parametrize("kind", ["residual", pytest.param("detector", marks=pytest.mark.matrix)])
def test_blockwise_reconstruction_rounds_the_same_weights(
    case: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune_shortly(monkeypatch)
    same_weights(case(kind, "esp32s3"), blockwise_reconstruction={"enabled": True, "steps": 5})


def same_weights(case: Case, **fields: Any) -> None:
    plain, fast = (parameters(case.quantized(engine, **fields)) for engine in ENGINES)
    assert plain.keys() == fast.keys()
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-3, atol=1e-5, msg=name)
