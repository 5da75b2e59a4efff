"""Every pass on every network and chip by both engines: they find the same, or fail alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from esp_ppq.core import defs
from esp_ppq.quantization.algorithm.training import TQTDelegator
from esp_ppq.quantization.optim.training import TrainedQuantizationThresholdPass

from espdl_quantize.contract import Batch, Contract
from espdl_quantize.core import Engine, IterationError, NoProgress
from espdl_quantize.ppq import (
    FloatModel,
    QuantizedModel,
    engine_for,
    prepare_float_model,
    probe_target,
    quantize,
)
from espdl_quantize.ppq.fast.training import TqtTrainer
from espdl_quantize.setting import parse_setting, resolve
from tests.matrix import thinned
from tests.networks import KINDS, calibration_images
from tests.slow.test_fast_engine import ENGINES, parameters, scales, tune_shortly
from tests.slow.test_networks import contract_for

pytestmark = pytest.mark.slow

TARGETS = ("esp32s3", "esp32p4", "c")
PASSES: dict[str, dict[str, Any]] = {
    "bias correction": {"bias_correct": {"enabled": True}},
    "equalization": {"equalization": {"enabled": True, "value_threshold": 0.0}},
    "blockwise": {"blockwise_reconstruction": {"enabled": True, "steps": 3}},
}
SHORT = ("one class", "residual", "detector")
"""Networks that blockwise reconstruction, whose steps take esp-ppq longest, is tried on."""

RATES = {"small": (1e-5, 4), "large": (0.3, 3)}
"""Learning rate and steps of TQT. An exponent that is to become another one has to move by a half:
at the larger rate two steps of Adam do that, at the smaller one no number of steps in use."""


@dataclass
class Outcome:
    """What became of a network.

    Attributes:
        model: quantized; None where that failed.
        losses: of each block, before and after it was trained.
        failure: the root cause's type, where it failed.
    """

    model: QuantizedModel | None
    losses: list[float]
    failure: str = ""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def prepare(kind: str, target: str) -> tuple[Contract, FloatModel]:
        folder: Path = tmp_path_factory.mktemp("net")
        contract = contract_for(kind, "torch", target, folder)
        return contract, prepare_float_model(contract, folder)

    return prepare


def outcome(
    case: tuple[Contract, FloatModel], kind: str, engine: Engine, fields: dict[str, Any]
) -> Outcome:
    contract, model = case
    target = contract.config.target
    setting = parse_setting({"iteration_id": 0, "calib_algorithm": "minmax", **fields})
    resolved = resolve(setting, probe_target(target))
    size = 1 if kind == "transformer" else 2
    batches = [Batch.of(images) for images in torch.split(calibration_images(4), size)][:2]
    losses: list[float] = []
    with engine_for(engine).install() as installed, pytest.MonkeyPatch.context() as patch:
        # Collecting garbage takes most of the time of networks as small as these.
        patch.setattr(defs, "gc", SimpleNamespace(collect=lambda: 0))
        tune_shortly(patch)
        for trainer in (TrainedQuantizationThresholdPass, TqtTrainer):
            _note(patch, trainer, losses)
        try:
            found = quantize(
                model, contract.config, resolved, batches, NoProgress(), engine=installed
            )
        except IterationError as error:
            root: BaseException = error
            while root.__cause__ is not None:
                root = root.__cause__
            return Outcome(None, losses, type(root).__name__)
    return Outcome(found, losses)


def _note(patch: pytest.MonkeyPatch, trainer: Any, losses: list[float]) -> None:
    finetune = trainer.finetune

    def noting(*given: Any, **named: Any) -> Any:
        found = finetune(*given, **named)
        losses.extend(float(one) for one in found)
        return found

    patch.setattr(trainer, "finetune", noting)


def both(prepared: Any, kind: str, target: str, fields: dict[str, Any]) -> list[Outcome]:
    """Return the outcome of each engine, once they agree in whether there is one."""
    case = prepared(kind, target)
    plain, fast = (outcome(case, kind, engine, fields) for engine in ENGINES)
    # By different exceptions, where a value is missing.
    assert bool(plain.failure) == bool(fast.failure), (plain.failure, fast.failure)
    return [plain, fast]


def exponents_of(model: QuantizedModel) -> dict[Any, list[float]]:
    return {
        name: torch.log2(torch.tensor(values)).tolist() for name, values in scales(model).items()
    }


def agree_in_exponents(plain: QuantizedModel, fast: QuantizedModel) -> None:
    assert exponents_of(plain) == exponents_of(fast)


def agree_in_way(plain: QuantizedModel, fast: QuantizedModel, rate: float, steps: int) -> None:
    """Compare trained weights in units of the way that they went.

    A few have gradients of nothing but rounding, and Adam makes whole steps of these.
    """
    apart = far = 0
    ours = parameters(fast)
    for name, value in parameters(plain).items():
        if value.is_floating_point() and value.numel():
            limit = 0.02 * rate * steps + 2e-7 * float(value.abs().max())
            apart += int(((ours[name] - value).abs() > limit).sum())
            far += value.numel()
    assert apart <= 0.01 * far, f"{apart} of {far} weights went another way"


def agree_in_parameters(plain: QuantizedModel, fast: QuantizedModel) -> None:
    ours = parameters(fast)
    assert ours.keys() == parameters(plain).keys()
    for name, value in parameters(plain).items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=name)


on_every_network = pytest.mark.parametrize(("kind", "target"), thinned(product(KINDS, TARGETS)))


@pytest.mark.parametrize(
    ("kind", "target", "name"),
    thinned(
        (kind, target, name)
        for name in PASSES
        for kind in (SHORT if name == "blockwise" else KINDS)
        for target in TARGETS
    ),
)
def test_a_pass_finds_the_same(prepared: Any, kind: str, target: str, name: str) -> None:
    plain, fast = both(prepared, kind, target, PASSES[name])
    if plain.model is not None and fast.model is not None:
        agree_in_exponents(plain.model, fast.model)
        agree_in_parameters(plain.model, fast.model)


def tqt(rate: str) -> dict[str, Any]:
    lr, steps = RATES[rate]
    return {"tqt_optimization": {"enabled": True, "lr": lr, "steps": steps}}


@on_every_network
def test_tqt_trains_the_same_weights(prepared: Any, kind: str, target: str) -> None:
    plain, fast = both(prepared, kind, target, tqt("small"))
    if plain.model is None or fast.model is None:
        return
    agree_in_exponents(plain.model, fast.model)
    agree_in_parameters(plain.model, fast.model)
    agree_in_way(plain.model, fast.model, *RATES["small"])
    assert plain.losses
    assert fast.losses == pytest.approx(plain.losses, rel=1e-3, abs=1e-12)


@on_every_network
def test_tqt_moves_the_same_exponents(
    prepared: Any, kind: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps so wide make most blocks worse; what they were trained to is kept all the same.
    def keep(delegator: Any) -> None:
        if delegator.is_scale_trainable:
            with torch.no_grad():
                delegator.config.scale.copy_(torch.pow(2.0, torch.round(delegator.log2_scale)))

    monkeypatch.setattr(TQTDelegator, "withdraw", keep)
    plain, fast = both(prepared, kind, target, tqt("large"))
    if plain.model is None or fast.model is None:
        return
    before = exponents_of(outcome(prepared(kind, target), kind, Engine.FAST, {}).model)  # type: ignore[arg-type]
    after = exponents_of(plain.model)
    moved = sum(after[name] != values for name, values in before.items())
    assert moved > 0
    agree_in_exponents(plain.model, fast.model)
    assert fast.losses == pytest.approx(plain.losses, rel=0.05)
