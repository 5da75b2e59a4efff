"""The fast engine against plain esp-ppq on a GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from espdl_quantize.cli.engines import TOLERANCE, largest_difference
from espdl_quantize.ppq import prepare_device
from espdl_quantize.ppq.fast import _gpu
from tests.slow.test_fast_engine import ENGINES, Case, same_weights, scales

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]

KINDS = ("depthwise", "residual", "detector", "transformer")
TARGETS = ("esp32s3", "esp32p4")
on_every_network = pytest.mark.parametrize(
    ("kind", "target"), [(kind, target) for kind in KINDS for target in TARGETS]
)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda kind, target: Case(kind, target, tmp_path_factory.mktemp(kind), "cuda"))


def test_the_kernels_give_torchs_numbers() -> None:
    assert _gpu.kernels() is not None


def test_a_convolution_computes_in_float32() -> None:
    prepare_device("cuda")
    x, weight = torch.randn(8, 64, 32, 32), torch.randn(64, 64, 3, 3)
    here = torch.nn.functional.conv2d(x.cuda(), weight.cuda()).cpu()
    assert (here - torch.nn.functional.conv2d(x, weight)).norm() < 1e-5 * here.norm()


@on_every_network
def test_calibration_finds_the_same_scales(case: Any, kind: str, target: str) -> None:
    for calibration in ("kl", "mse", "percentile", "minmax"):
        plain, fast = (
            case(kind, target).quantized(engine, calib_algorithm=calibration) for engine in ENGINES
        )
        assert scales(plain) == scales(fast)


@on_every_network
def test_the_analyses_agree(case: Any, kind: str, target: str) -> None:
    model = case(kind, target).quantized(ENGINES[0])
    plain, fast = (case(kind, target).measured(model, engine) for engine in ENGINES)
    assert largest_difference(plain.layerwise, fast.layerwise) <= TOLERANCE
    assert largest_difference(plain.graphwise, fast.graphwise) <= TOLERANCE
    assert len(plain.statistics) == len(fast.statistics)


@on_every_network
def test_tqt_trains_the_same_exponents(case: Any, kind: str, target: str) -> None:
    training = {"enabled": True, "steps": 4 if kind == "transformer" else 40, "lr": 1e-3}
    plain, fast = (
        case(kind, target).quantized(engine, tqt_optimization=training) for engine in ENGINES
    )
    assert scales(plain) == scales(fast)


@on_every_network
def test_bias_correction_finds_the_same_biases(case: Any, kind: str, target: str) -> None:
    same_weights(case(kind, target), bias_correct={"enabled": True})
