"""The compiled fake quantization against esp-ppq's, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from esp_ppq.core import (
    QuantizationPolicy,
    QuantizationProperty,
    QuantizationStates,
    RoundingPolicy,
    TensorQuantizationConfig,
)
from esp_ppq.quantization.algorithm.training import TQTDelegator
from esp_ppq.quantization.qfunction import PPQuantFunction
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from espdl_quantize.quantize.fast import fake_quantize
from espdl_quantize.quantize.fast._fake_quant import grid_of
from espdl_quantize.quantize.fast._tqt import _Trained

ROUNDINGS = (RoundingPolicy.ROUND_HALF_EVEN, RoundingPolicy.ROUND_HALF_UP)
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
}


def configuration(
    rounding: RoundingPolicy, axis: int | None, bits: int, shape: torch.Size
) -> TensorQuantizationConfig:
    kind = QuantizationProperty.PER_TENSOR if axis is None else QuantizationProperty.PER_CHANNEL
    policy = QuantizationProperty.SYMMETRICAL + QuantizationProperty.LINEAR
    exponents = torch.arange(1.0, 1 + (1 if axis is None else shape[axis])) + 3
    scale = torch.pow(2.0, -exponents)
    scale = scale[0] if axis is None else scale
    return TensorQuantizationConfig(
        policy=QuantizationPolicy(policy + QuantizationProperty.POWER_OF_2 + kind),
        rounding=rounding,
        num_of_bits=bits,
        quant_min=-(2 ** (bits - 1)),
        quant_max=2 ** (bits - 1) - 1,
        scale=scale,
        offset=torch.zeros_like(scale),
        observer_algorithm="minmax",
        state=QuantizationStates.ACTIVATED,
        channel_axis=axis,
    )


def values(dtype: torch.dtype) -> Tensor:
    """Random values, exact halves of the grid among them, and some that are clipped."""
    torch.manual_seed(0)
    x = torch.randn(6, 7, 5, 4, dtype=dtype) * 6
    x.view(-1)[:200] = torch.arange(-100, 100, dtype=dtype) * 2.0**-5
    return x


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_esp_ppqs(layout: str, dtype: torch.dtype) -> None:
    for rounding, axis, bits in itertools.product(ROUNDINGS, (None, 0, 1), (8, 16)):
        given_values = LAYOUTS[layout](values(dtype))
        config = configuration(rounding, axis, bits, given_values.shape)
        plain, fast = (given_values.detach().clone().requires_grad_() for _ in range(2))
        wanted, found = PPQuantFunction(plain, config), fake_quantize(fast, config)
        assert torch.equal(wanted, found)
        assert wanted.dtype == found.dtype
        dy = torch.randn_like(wanted)
        wanted.backward(dy)
        found.backward(dy)
        assert torch.equal(plain.grad, fast.grad)
        with torch.no_grad():
            assert torch.equal(fake_quantize(given_values, config), wanted)


@given(st.lists(st.floats(width=32, allow_infinity=True), min_size=1, max_size=40))
def test_any_number_goes_where_esp_ppq_puts_it(numbers: list[float]) -> None:
    tensor = torch.tensor(numbers)
    for rounding in ROUNDINGS:
        config = configuration(rounding, None, 8, tensor.shape)
        wanted, found = PPQuantFunction(tensor, config), fake_quantize(tensor, config)
        np.testing.assert_array_equal(wanted.numpy(), found.numpy())


def test_what_no_kernel_fits_goes_to_esp_ppq() -> None:
    config = configuration(ROUNDINGS[0], None, 8, torch.Size([4]))
    config.scale = torch.tensor(0.3)  # no power of two
    assert grid_of(config) is None
    tensor = torch.randn(4)
    assert torch.equal(fake_quantize(tensor, config), PPQuantFunction(tensor, config))
    assert fake_quantize(None, config) is None
    config.state = QuantizationStates.FP32
    assert fake_quantize(tensor, config) is tensor


class _Variable:
    is_parameter = False
    value = None


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_gradient_of_the_scale_is_esp_ppqs(rounding: RoundingPolicy, axis: int | None) -> None:
    tensor = values(torch.float32)
    config = configuration(rounding, axis, 8, tensor.shape)
    delegator = TQTDelegator(config=config, var=_Variable())
    plain, fast = (tensor.detach().clone().requires_grad_() for _ in range(2))
    dy = torch.randn_like(tensor)
    wanted = delegator(plain, config)
    wanted.backward(dy)
    grid = grid_of(config)
    assert grid is not None
    log2_scale = delegator.log2_scale.detach().clone().requires_grad_()
    found = _Trained.apply(fast, log2_scale, grid)
    found.backward(dy)
    assert torch.equal(wanted, found)
    assert torch.equal(plain.grad, fast.grad)
    # The sums are taken in another order.
    torch.testing.assert_close(log2_scale.grad, delegator.log2_scale.grad, rtol=1e-4, atol=1e-4)
