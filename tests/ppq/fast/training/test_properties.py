"""What trains, on any layer, geometry and tensor, against torch and plain esp-ppq."""

from __future__ import annotations

from typing import Any

import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.executor import TorchExecutor
from esp_ppq.quantization.algorithm.training import TQTDelegator, TrainableBlock
from esp_ppq.quantization.optim.training import TrainedQuantizationThresholdPass
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from espdl_quantize.ppq.fast.training import TqtTrainer
from espdl_quantize.ppq.fast.training._scales import Scales
from espdl_quantize.ppq.fast.training.block import BlockRunner
from espdl_quantize.ppq.fast.training.convolution import (
    Geometry,
    convolution_gradients,
    convolved,
    depthwise_gradient,
)
from espdl_quantize.ppq.fast.training.parameters import Parameters
from tests.matrix import examples
from tests.ppq.fast.drawn import SMALL, Layer, generator, laid_out, layers

TYPES = ("Conv1", "Conv2", "Conv3", "ConvTranspose1", "ConvTranspose2", "ConvTranspose3", "Gemm")
PAIRS = st.tuples(SMALL, SMALL)
KERNELS = st.tuples(st.sampled_from((1, 2, 3, 5, 6)), st.sampled_from((1, 2, 3, 5, 6)))


def blocks_agree(layer: Layer, data: Any) -> int:
    """Compare output, loss and gradients of a block; return how many of its ops are fused."""
    graph, x = layer.graph, layer.x
    optimization, executor = TrainedQuantizationThresholdPass(), TorchExecutor(graph, device="cpu")
    order = graph.topological_sort()
    block = TrainableBlock(order[0], order[-1], order)
    optimization.enable_block_gradient(block)
    constants = [
        variable.value
        for variable in order[0].inputs
        if variable.is_parameter and variable.value.requires_grad
    ]
    name = order[-1].outputs[0].name
    theirs: dict[int, Any] = {}
    for op in order:
        for config, variable in op.config_with_variable:
            if config.state in (QuantizationStates.ACTIVATED, QuantizationStates.PASSIVE):
                theirs[id(config)] = TQTDelegator(config=config, var=variable)
                executor.register_quantize_delegate(config, theirs[id(config)])
    plain = x.detach().requires_grad_()
    (wanted,) = executor.partial_graph_forward(order, {"x": plain}, [name])
    dy = laid_out(data.draw, torch.randn(wanted.shape, dtype=wanted.dtype))
    wanted.backward(dy)
    wanted_slopes = [plain.grad, *(one.grad for one in constants)]
    for one in constants:
        one.grad = None

    scales, fast = Scales(), x.detach().requires_grad_()
    TqtTrainer(optimization)._trainable(block, scales)
    assert scales.delegators.keys() == theirs.keys()
    runner = BlockRunner(block, "cpu", scales)
    found = runner.run({"x": fast})[name]
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)
    found.backward(dy)  # type: ignore[no-untyped-call]
    for one, slope in zip([fast, *constants], wanted_slopes, strict=True):
        near = 1e-4 * float(slope.abs().max())
        torch.testing.assert_close(one.grad, slope, rtol=1e-4, atol=near)
    pairs = [
        (scales.delegators[key].log2_scale, one.log2_scale)
        for key, one in theirs.items()
        if one.is_scale_trainable and one.log2_scale.grad is not None
    ]
    assert pairs
    size = float(dy.abs().sum()) * float(wanted.detach().abs().max() + 1)
    for own, other in pairs:
        assert own.grad.shape == other.grad.shape
        near = 1e-4 * max(float(other.grad.abs().max()), 1e-2 * size)
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=near)
    optimization.disable_block_gradient(block)
    return len(runner._units)


@examples(50, whole=150)
@given(layers(("Conv2",), exact=True), st.data())
def test_a_fused_convolution_is_esp_ppqs(layer: Layer, data: Any) -> None:
    fused = blocks_agree(layer, data)
    op = layer.graph.operations["layer"]
    is_double = "INT16" in op.platform.name
    _, _, *bias = op.config.input_quantization_config
    is_trained = any(one.state == QuantizationStates.ACTIVATED for one in bias)
    assert fused == (0 if is_double or is_trained else 1)
    event("fused" if fused else "not fused")


@examples(40, whole=100)
@given(layers(tuple(one for one in TYPES if one != "Conv2"), exact=True), st.data())
def test_a_layer_that_is_not_fused_trains_alike(layer: Layer, data: Any) -> None:
    assert blocks_agree(layer, data) == 0


@st.composite
def convolutions(draw: Any, kernels: Any = KERNELS) -> tuple[Tensor, Tensor, Any, Geometry]:
    """Images, weights, a bias or None, and a geometry that fits them."""
    random, groups = generator(draw), draw(SMALL)
    kernel, stride, dilation = draw(kernels), draw(PAIRS), draw(PAIRS)
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    inputs, outputs = draw(SMALL), draw(SMALL)
    if draw(st.booleans()):
        inputs = outputs = 1
    sizes = [
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    x = torch.randn(draw(st.integers(1, 10)), inputs * groups, *sizes, generator=random)
    weight = torch.randn(outputs * groups, inputs, *kernel, generator=random)
    bias = torch.randn(len(weight), generator=random) if draw(st.booleans()) else None
    geometry = Geometry(stride, padding, dilation, groups)
    return laid_out(draw, x), laid_out(draw, weight), bias, geometry


def test_a_dilation_of_one_element_crashes_nothing() -> None:
    # torch itself ends the process on this one.
    x = torch.empty_strided((8, 6, 5, 1), (30, 1, 6, 6)).normal_()
    weight, geometry = torch.randn(9, 2, 6, 1), Geometry((3, 2), (4, 3), (2, 3), 3)
    found = convolved(x, weight, None, geometry)
    wanted = functional.conv2d(x.contiguous(), weight, None, (3, 2), (4, 3), (2, 3), 3)
    torch.testing.assert_close(found, wanted)


@examples(80, whole=250)
@given(convolutions(), st.booleans(), st.data())
def test_convolutions_and_their_gradients_are_torchs(
    drawn: tuple[Tensor, Tensor, Any, Geometry], need_dx: bool, data: Any
) -> None:
    x, weight, bias, geometry = drawn
    plain, fixed = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    addend = None if bias is None else bias.double()
    moves = geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    wanted = functional.conv2d(plain, fixed, addend, *moves)
    near = 1e-5 * weight[0].numel()
    torch.testing.assert_close(
        convolved(x, weight, bias, geometry), wanted.float(), rtol=1e-4, atol=near
    )
    dz = laid_out(data.draw, torch.randn(wanted.shape))
    wanted.backward(dz.double())  # type: ignore[no-untyped-call]
    dx, dweight = convolution_gradients(dz, x, weight, geometry, need_dx=need_dx)
    assert (dx is not None) == need_dx
    near = 1e-5 * dz.numel()
    torch.testing.assert_close(dweight, fixed.grad.float(), rtol=1e-4, atol=near)  # type: ignore[union-attr]
    if dx is not None:
        torch.testing.assert_close(dx, plain.grad.float(), rtol=1e-4, atol=near)  # type: ignore[union-attr]
    if geometry.is_depthwise(weight):
        own = depthwise_gradient(dz, x, weight, geometry.stride, geometry.padding)
        torch.testing.assert_close(own, fixed.grad.float(), rtol=1e-4, atol=near)  # type: ignore[union-attr]


@st.composite
def depthwise(draw: Any) -> tuple[Tensor, Tensor, Tensor, Geometry]:
    """Images, weights of one channel each, gradients of the output, and the geometry."""
    random, channels, kernel = generator(draw), draw(st.integers(1, 5)), draw(KERNELS)
    padding = draw(st.tuples(st.integers(0, 6), st.integers(0, 6)))
    sizes = [
        max(1, k - 2 * p) + draw(st.integers(0, 9)) for k, p in zip(kernel, padding, strict=True)
    ]
    x = torch.randn(draw(st.integers(1, 10)), channels, *sizes, generator=random)
    weight = torch.randn(channels, 1, *kernel, generator=random)
    geometry = Geometry(draw(PAIRS), padding, (1, 1), channels)
    z = functional.conv2d(x, weight, None, geometry.stride, padding, 1, channels)
    dz = torch.randn(z.shape, generator=random)
    return laid_out(draw, x), laid_out(draw, weight), laid_out(draw, dz), geometry


@examples(80, whole=250)
@given(depthwise())
def test_the_gradient_of_depthwise_weights_is_torchs(
    drawn: tuple[Tensor, Tensor, Tensor, Geometry],
) -> None:
    x, weight, dz, geometry = drawn
    fixed = weight.detach().double().requires_grad_()
    functional.conv2d(  # type: ignore[no-untyped-call]
        x.double(), fixed, None, geometry.stride, geometry.padding, 1, geometry.groups
    ).backward(dz.double())
    found = depthwise_gradient(dz, x, weight, geometry.stride, geometry.padding)
    near = 1e-5 * dz.numel() / len(weight)
    torch.testing.assert_close(found, fixed.grad.float(), rtol=1e-4, atol=near)  # type: ignore[union-attr]


@examples(25, whole=60)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 4), max_size=4),
            st.sampled_from((torch.float32, torch.float64)),
        ),
        min_size=1,
        max_size=5,
    ),
    st.floats(1e-6, 1),
    st.integers(1, 12),
    st.data(),
)
def test_adam_is_torchs(
    kinds: list[tuple[list[int], torch.dtype]], rate: float, steps: int, data: Any
) -> None:
    random = generator(data.draw)
    values = [torch.randn(shape, generator=random).to(dtype) for shape, dtype in kinds]
    plain, ours = ([one.clone().requires_grad_() for one in values] for _ in range(2))
    optimizer, parameters = torch.optim.Adam(plain, lr=rate), Parameters(ours, rate)
    sizes = 10.0 ** torch.randint(-6, 4, (steps,), generator=random)
    for size in sizes:
        for one, other in zip(plain, ours, strict=True):
            slope = torch.randn(one.shape, generator=random).to(one.dtype) * size
            slope *= torch.rand(one.shape, generator=random) < 0.7
            one.grad = slope
            other.grad += slope
        optimizer.step()
        parameters.step()
    parameters.release()
    for wanted, found in zip(plain, ours, strict=True):
        near = 16 * torch.finfo(wanted.dtype).eps
        # A step is of the size of the rate.
        torch.testing.assert_close(found, wanted, rtol=near, atol=near * (1 + rate * steps))
