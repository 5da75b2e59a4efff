"""The compiled fake quantization against esp-ppq's, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.quantization.qfunction import PPQuantFunction
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.ppq.fast import fake_quantize
from espdl_quantize.ppq.fast._fake_quant import RELU, Bounds, grid_of
from tests.ppq.fast.made import LAYOUTS, ROUNDINGS, configuration, values


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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bounds", [RELU, Bounds(0.0, 6.0), Bounds(most=2.5), Bounds(-1.0)])
def test_an_activation_on_the_way_is_torchs(layout: str, bounds: Bounds) -> None:
    given_values = LAYOUTS[layout](values(torch.float32))
    # On the bounds themselves, Relu and Clip pass gradients differently.
    given_values[0, 0, 0, :3] = torch.tensor([0.0, -0.0, 6.0])
    for rounding, bits in itertools.product(ROUNDINGS, (8, 16)):
        config = configuration(rounding, None, bits, given_values.shape)
        plain, fast = (given_values.detach().clone().requires_grad_() for _ in range(2))
        wanted = PPQuantFunction(bounds.of(plain), config)
        found = fake_quantize(fast, config, bounds)
        assert torch.equal(wanted, found)
        dy = torch.randn_like(wanted)
        wanted.backward(dy)
        found.backward(dy)
        assert torch.equal(plain.grad, fast.grad)


def test_an_activation_before_scales_per_channel_or_none_is_torchs() -> None:
    tensor = values(torch.float32)
    config = configuration(ROUNDINGS[0], 1, 8, tensor.shape)
    wanted = PPQuantFunction(tensor.relu(), config)
    assert torch.equal(fake_quantize(tensor, config, RELU), wanted)
    config.state = QuantizationStates.FP32
    assert torch.equal(fake_quantize(tensor, config, RELU), tensor.relu())


@given(st.lists(st.floats(width=32, allow_infinity=True), min_size=1, max_size=40))
def test_any_number_leaves_an_activation_as_in_torch(numbers: list[float]) -> None:
    tensor = torch.tensor(numbers)
    config = configuration(ROUNDINGS[0], None, 8, tensor.shape)
    for bounds in (RELU, Bounds(-1.0, 6.0)):
        wanted = PPQuantFunction(bounds.of(tensor), config)
        np.testing.assert_array_equal(wanted.numpy(), fake_quantize(tensor, config, bounds).numpy())
