"""The kernels for a GPU: by Triton's interpreter where there is none, on the GPU where there is."""

from __future__ import annotations

import importlib
import itertools
import os
from types import ModuleType
from typing import Any

import pytest
import torch
from esp_ppq.core import RoundingPolicy
from esp_ppq.quantization.algorithm.training import TQTDelegator
from esp_ppq.quantization.qfunction import PPQuantFunction

from espdl_quantize.ppq.fast import _gpu as gpu
from tests.ppq.fast.made import LAYOUTS, ROUNDINGS, configuration, values

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    # Triton looks at it while it is imported.
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton comes with the CUDA builds of torch")


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    return importlib.import_module("espdl_quantize.ppq.fast.gpu_kernels")


class _Variable:
    is_parameter = False
    value = None


def on_device(config: Any) -> Any:
    config.scale, config.offset = config.scale.to(DEVICE), config.offset.to(DEVICE)
    return config


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_esp_ppqs(layout: str, kernels: ModuleType) -> None:
    for rounding, axis, bits in itertools.product(ROUNDINGS, (None, 0, 1), (8, 16)):
        tensor = LAYOUTS[layout](values(torch.float32)).to(DEVICE)
        config = on_device(configuration(rounding, axis, bits, tensor.shape))
        up = rounding == RoundingPolicy.ROUND_HALF_UP
        grid = config.quant_min, config.quant_max, up
        found = gpu.quantized(kernels, tensor, config.scale, axis, grid)
        assert torch.equal(found, PPQuantFunction(tensor, config))


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_esp_ppqs(
    layout: str, rounding: RoundingPolicy, axis: int | None, kernels: ModuleType
) -> None:
    tensor = LAYOUTS[layout](values(torch.float32)).to(DEVICE)
    config = on_device(configuration(rounding, axis, 8, tensor.shape))
    delegator = TQTDelegator(config=config, var=_Variable())
    plain, fast = (tensor.detach().clone().requires_grad_() for _ in range(2))
    dy = torch.randn_like(tensor)
    delegator(plain, config).backward(dy)
    log2_scale = delegator.log2_scale.detach().clone().requires_grad_()
    grid = config.quant_min, config.quant_max, rounding == RoundingPolicy.ROUND_HALF_UP
    gpu._FakeQuant.apply(fast, log2_scale, None, axis, grid, True, kernels).backward(dy)  # type: ignore[no-untyped-call]
    assert torch.equal(plain.grad, fast.grad)
    # The sums are taken in another order.
    torch.testing.assert_close(log2_scale.grad, delegator.log2_scale.grad, rtol=1e-4, atol=1e-4)


def test_no_number_and_endless_ones_go_where_esp_ppq_puts_them(kernels: ModuleType) -> None:
    tensor = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0], device=DEVICE)
    for rounding in ROUNDINGS:
        config = on_device(configuration(rounding, None, 8, tensor.shape))
        grid = config.quant_min, config.quant_max, rounding == RoundingPolicy.ROUND_HALF_UP
        found = gpu.quantized(kernels, tensor, config.scale, None, grid)
        wanted = PPQuantFunction(tensor, config)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
