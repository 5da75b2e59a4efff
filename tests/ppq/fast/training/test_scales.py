"""Scales that are being trained, against esp-ppq's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from esp_ppq.core import RoundingPolicy, TensorQuantizationConfig
from esp_ppq.quantization.algorithm.training import TQTDelegator

from espdl_quantize.ppq.fast._fake_quant import NO_BOUNDS, RELU, Bounds
from espdl_quantize.ppq.fast.training._scales import Scales
from tests.ppq.fast.made import ROUNDINGS, configuration, values


class _Variable:
    is_parameter = False
    value = None


def scales_of(config: TensorQuantizationConfig) -> tuple[Scales, Any]:
    scales, delegator = Scales(), TQTDelegator(config=config, var=_Variable())
    scales.add(config, delegator)
    return scales, delegator


@pytest.mark.parametrize("bounds", [NO_BOUNDS, RELU])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_gradients_are_esp_ppqs(rounding: RoundingPolicy, axis: int | None, bounds: Bounds) -> None:
    tensor = values(torch.float32)
    config = configuration(rounding, axis, 8, tensor.shape)
    theirs, (ours, delegator) = TQTDelegator(config=config, var=_Variable()), scales_of(config)
    plain, fast = (tensor.detach().clone().requires_grad_() for _ in range(2))
    dy = torch.randn_like(tensor)
    wanted, found = theirs(bounds.of(plain), config), ours(fast, config, bounds)
    wanted.backward(dy)
    found.backward(dy)
    assert torch.equal(wanted, found)
    assert torch.equal(plain.grad, fast.grad)  # type: ignore[arg-type]
    # The sums are taken in another order.
    found, wanted = delegator.log2_scale.grad, theirs.log2_scale.grad
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_grid_follows_its_scale() -> None:
    config = configuration(ROUNDINGS[0], None, 8, torch.Size([4]))
    scales, delegator = scales_of(config)
    before = scales.grid(config)
    with torch.no_grad():
        delegator.log2_scale += 0.51
    after = scales.grid(config)
    assert before is not None and after is not None
    assert after.scale == 2 * before.scale


def test_a_fixed_scale_has_no_gradient() -> None:
    config = configuration(ROUNDINGS[0], None, 8, torch.Size([4]))
    assert Scales().trained(config) is None
    tensor = torch.randn(4, requires_grad=True)
    Scales()(tensor, config).sum().backward()
    assert tensor.grad is not None
