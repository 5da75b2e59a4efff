"""The kernels on any tensor, configuration and layer, against torch and plain esp-ppq."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from esp_ppq.core import QuantizationStates, TensorQuantizationConfig
from esp_ppq.executor import TorchExecutor
from esp_ppq.quantization.algorithm.training import TQTDelegator
from esp_ppq.quantization.observer.range import (
    TorchHistObserver,
    TorchMSEObserver,
    TorchPercentileObserver,
)
from esp_ppq.quantization.qfunction import PPQuantFunction
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from espdl_quantize.ppq._fallback import Fallback
from espdl_quantize.ppq.fast import fake_quantize, forwards
from espdl_quantize.ppq.fast._fake_quant import NO_BOUNDS, Bounds, grid_of
from espdl_quantize.ppq.fast.observers import order_statistics
from espdl_quantize.ppq.fast.training._scales import Scales
from espdl_quantize.ppq.patches import When, installed
from tests.matrix import examples
from tests.ppq.fast.drawn import BOUNDS, Layer, configured, laid_out, layers, quantizations, tensors
from tests.ppq.fast.made import ROUNDINGS


class _Variable:
    is_parameter = False
    value = None


def same(found: Any, wanted: Any) -> None:
    """Check for equality to the last bit, the sign of zero and the type among it."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found.detach().numpy(), wanted.detach().numpy())
    assert torch.equal(torch.signbit(found), torch.signbit(wanted))


def gradients(output: Tensor, dy: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output, of, dy))


@examples(100, whole=300)
@given(quantizations(), st.sampled_from(BOUNDS), st.data())
def test_fake_quantization_is_esp_ppqs(
    drawn: tuple[Tensor, TensorQuantizationConfig], bounds: Bounds, data: Any
) -> None:
    tensor, config = drawn
    assert grid_of(config) is not None
    same(fake_quantize(tensor, config, bounds), PPQuantFunction(bounds.of(tensor), config))
    plain, fast = (tensor.detach().requires_grad_() for _ in range(2))
    wanted = PPQuantFunction(bounds.of(plain), config)
    found = fake_quantize(fast, config, bounds)
    same(found, wanted)
    dy = laid_out(data.draw, torch.randn(wanted.shape, dtype=wanted.dtype))
    (slope,), (wanted_slope,) = gradients(found, dy, fast), gradients(wanted, dy, plain)
    # esp-ppq's zeros have the sign of what they were multiplied with.
    assert slope.dtype == wanted_slope.dtype
    assert torch.equal(slope, wanted_slope)


@examples(100, whole=300)
@given(quantizations(special=False), st.sampled_from(BOUNDS), st.booleans(), st.data())
def test_training_of_a_scale_is_esp_ppqs(
    drawn: tuple[Tensor, TensorQuantizationConfig], bounds: Bounds, is_trained: bool, data: Any
) -> None:
    tensor, config = drawn
    theirs, ours = (
        TQTDelegator(config=config, var=_Variable(), is_scale_trainable=is_trained)
        for _ in range(2)
    )
    scales = Scales()
    scales.add(config, ours)
    if is_trained:
        assert ours.log2_scale.shape == config.scale.shape
        with torch.no_grad():
            moved = data.draw(st.floats(-3, 3, width=32))
            ours.log2_scale += moved
            theirs.log2_scale += moved
    plain, fast = (tensor.detach().requires_grad_() for _ in range(2))
    wanted, found = theirs(bounds.of(plain), config), scales(fast, config, bounds)
    same(found, wanted)
    dy = laid_out(data.draw, torch.randn(wanted.shape, dtype=wanted.dtype))
    if not is_trained:
        same(*gradients(found, dy, fast), *gradients(wanted, dy, plain))
        return
    dx, slope = gradients(found, dy, fast, ours.log2_scale)
    wanted_dx, wanted_slope = gradients(wanted, dy, plain, theirs.log2_scale)
    same(dx, wanted_dx)
    assert slope.shape == wanted_slope.shape
    # The sums are taken in another order.
    near = 1e-5 * float(dy.abs().sum() * 2**config.num_of_bits * config.scale.max() * 8)
    torch.testing.assert_close(slope, wanted_slope, rtol=1e-4, atol=near)


@examples(25, whole=60)
@given(tensors(special=False), st.floats(-400, 400, width=32) | st.just(float("nan")))
def test_a_scale_that_runs_away_goes_where_esp_ppq_lets_it_go(
    tensor: Tensor, exponent: float
) -> None:
    config = configured(lambda strategy: 0, tensor.shape, None, 8, ROUNDINGS[0])
    theirs, ours = (TQTDelegator(config=config, var=_Variable()) for _ in range(2))
    scales = Scales()
    scales.add(config, ours)
    with torch.no_grad():
        for delegator in (theirs, ours):
            delegator.log2_scale.fill_(exponent)
    np.testing.assert_array_equal(
        scales(tensor, config).detach().numpy(), theirs(tensor, config).detach().numpy()
    )


def test_scales_that_are_not_one_for_each_channel_go_to_esp_ppq() -> None:
    tensor = torch.randn(2, 3, 4)
    config = configured(lambda strategy: 0, torch.Size([1]), 0, 8, ROUNDINGS[0])
    config.channel_axis = 1
    # One for all.
    same(fake_quantize(tensor, config), PPQuantFunction(tensor, config))
    config.scale, config.offset = torch.ones(2), torch.zeros(2)
    with pytest.raises(RuntimeError):
        PPQuantFunction(tensor, config)
    with pytest.raises(RuntimeError):
        fake_quantize(tensor, config)


@examples(35, whole=100)
@given(layers(("Conv2",), exact=False))
def test_no_layout_changes_a_bit(layer: Layer) -> None:
    runs_alike(layer)


@examples(50, whole=150)
@given(
    layers(
        ("Conv1", "Conv2", "Conv3", "ConvTranspose1", "ConvTranspose2", "ConvTranspose3", "Gemm"),
        exact=False,
    )
)
def test_a_layer_runs_as_by_esp_ppq(layer: Layer) -> None:
    runs_alike(layer)


def runs_alike(layer: Layer) -> None:
    executor = TorchExecutor(graph=layer.graph, device="cpu")
    (wanted,) = executor.forward(layer.x)
    with pytest.MonkeyPatch.context() as patch, installed(When.FAST_ENGINE, Fallback()):
        patch.setattr(forwards, "_LARGE", 0)
        (found,) = executor.forward(layer.x)
    same(found, wanted)


@examples(50, whole=150)
@given(tensors(), st.floats(0, 1), st.floats(0, 1))
def test_order_statistics_are_those_of_kthvalue(tensor: Tensor, low: float, high: float) -> None:
    last = tensor.numel() - 1
    ranks = sorted((1 + round(low * last), 1 + round(high * last)))
    wanted = [torch.kthvalue(tensor.flatten(), rank).values for rank in ranks]
    for found, value in zip(order_statistics(tensor, *ranks), wanted, strict=True):
        assert float(found) == float(value)


OBSERVERS = {
    "kl": TorchHistObserver,
    "mse": TorchMSEObserver,
    "percentile": TorchPercentileObserver,
}


@examples(20, whole=40)
@given(
    st.lists(tensors(least=1, special=False), min_size=1, max_size=3),
    st.sampled_from(ROUNDINGS),
    st.sampled_from(sorted(OBSERVERS)),
    st.booleans(),
)
def test_an_observer_finds_the_same_scale(
    batches: list[Tensor], rounding: Any, name: str, is_positive: bool
) -> None:
    batches = [one.float().relu() if is_positive else one.float() for one in batches]
    assume(any(one.any() for one in batches))

    def scale() -> Any:
        config = configured(lambda strategy: 0, torch.Size(), None, 8, rounding)
        config.observer_algorithm, config.state = name, QuantizationStates.INITIAL
        observer = OBSERVERS[name](watch_on=_Variable(), quant_cfg=config)
        for _ in range(1 if name == "percentile" else 2):
            for batch in batches:
                observer.observe(batch)
            observer.render_quantization_config()
        assert config.state == QuantizationStates.ACTIVATED
        return config.scale

    wanted = scale()
    with installed(When.FAST_ENGINE, Fallback()):
        assert float(scale()) == float(wanted)


def test_without_bounds_nothing_is_done() -> None:
    tensor = torch.randn(3)
    assert NO_BOUNDS.of(tensor) is tensor
