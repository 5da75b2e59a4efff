"""Tensors, configurations and layers of every shape, for hypothesis to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from esp_ppq.core import (
    OperationQuantizationConfig,
    QuantizationPolicy,
    QuantizationProperty,
    QuantizationStates,
    TargetPlatform,
    TensorQuantizationConfig,
)
from esp_ppq.IR import BaseGraph, QuantableOperation
from hypothesis import strategies as st
from torch import Tensor

from espdl_quantize.ppq.fast._fake_quant import NO_BOUNDS, RELU, Bounds
from tests.ppq.fast.made import ROUNDINGS

_SPECIAL = (0.0, -0.0, 1.0, 6.0, 0.5, -0.5, 127.5, -128.5, 1e-40, 3e38, float("inf"), -float("inf"))

BOUNDS = (NO_BOUNDS, RELU, Bounds(0.0, 6.0), Bounds(most=0.5), Bounds(-1.0), Bounds(0.5, 0.5))
SMALL = st.integers(1, 3)


def generator(draw: Any) -> torch.Generator:
    return torch.Generator().manual_seed(draw(st.integers(0, 2**31)))


def laid_out(draw: Any, tensor: Tensor) -> Tensor:
    """Return the same numbers at other places in memory, with gaps, repeated, or transposed."""
    kind = draw(st.sampled_from(("plain", "last", "transposed", "gaps", "repeated", "offset")))
    if kind == "last" and tensor.dim() in (4, 5):
        last = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
        return tensor.contiguous(memory_format=last)
    if kind == "transposed" and tensor.dim() > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == "gaps" and tensor.dim() > 0:
        return torch.stack([tensor, tensor + 1], dim=-1)[..., 0]
    if kind == "repeated" and tensor.dim() > 0:
        return tensor[:1].expand_as(tensor)
    if kind == "offset":
        return torch.cat([tensor.new_zeros(3), tensor.reshape(-1)])[3:].view(tensor.shape)
    return tensor


@st.composite
def tensors(draw: Any, least: int = 0, most: int = 5, special: bool = True) -> Tensor:
    """Numbers of which many lie halfway between two integers times 2^-4, and many outside of int8;
    float32 or float64, of up to five dimensions."""
    shape = draw(st.lists(st.sampled_from((1, 1, 2, 3, 5)), min_size=least, max_size=most))
    random = generator(draw)
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    tensor = torch.randn(shape, generator=random, dtype=dtype) * 6
    halves = torch.randint(-600, 600, shape, generator=random) / 32
    tensor = torch.where(torch.rand(shape, generator=random) < 0.5, halves.to(dtype), tensor)
    if special and draw(st.booleans()):
        values = torch.tensor(_SPECIAL, dtype=dtype)
        chosen = values[torch.randint(0, len(values), shape, generator=random)]
        tensor = torch.where(torch.rand(shape, generator=random) < 0.3, chosen, tensor)
    return laid_out(draw, tensor)


def configured(
    draw: Any,
    shape: torch.Size,
    axis: int | None,
    bits: int,
    rounding: Any,
    exponents: tuple[int, int] = (-6, 1),
) -> TensorQuantizationConfig:
    """Draw a configuration; a scale of one element has one dimension or none."""
    kind = QuantizationProperty.PER_TENSOR if axis is None else QuantizationProperty.PER_CHANNEL
    policy = QuantizationProperty.SYMMETRICAL + QuantizationProperty.LINEAR
    count = 1 if axis is None else shape[axis]
    drawn = torch.randint(*exponents, (count,), generator=generator(draw))
    scale = torch.pow(2.0, drawn.float())
    if count == 1 and draw(st.booleans()):
        scale = scale[0]
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


@st.composite
def quantizations(draw: Any, special: bool = True) -> tuple[Tensor, TensorQuantizationConfig]:
    """A tensor and a configuration that fits it."""
    tensor = draw(tensors(special=special))
    axes = [None, *range(tensor.dim())]
    axis, bits = draw(st.sampled_from(axes)), draw(st.sampled_from((8, 16)))
    return tensor, configured(draw, tensor.shape, axis, bits, draw(st.sampled_from(ROUNDINGS)))


@dataclass
class Layer:
    """A graph of one computing op and, perhaps, an activation behind it.

    Attributes:
        graph: the quantized graph.
        x: its input, integers of its scale within its range, and some outside of it.
    """

    graph: BaseGraph
    x: Tensor


@st.composite
def layers(draw: Any, types: tuple[str, ...], exact: bool) -> Layer:
    """Draw a layer of 1, 2 or 3 dimensions, or a Gemm.

    Args:
        draw: from hypothesis.
        types: of the op.
        exact: nothing lies halfway between two integers, and float32 holds every sum of what is
            quantized, so that no order of adding changes a bit of the output.
    """
    kind, random = draw(st.sampled_from(types)), generator(draw)
    rounding, bits = draw(st.sampled_from(ROUNDINGS)), draw(st.sampled_from((8, 8, 16)))
    op_type, spatial = ("Gemm", 0) if kind == "Gemm" else (kind[:-1], int(kind[-1]))
    weight, attributes, channels, sizes = _geometry(draw, op_type, spatial)
    outputs = weight[1] * attributes["group"] if op_type == "ConvTranspose" else weight[0]
    axis = {"ConvTranspose": 1}.get(op_type, 0) if draw(st.booleans()) else None
    if op_type == "ConvTranspose" and attributes["group"] > 1:
        axis = None  # esp-ppq's layout of scales does not know of groups there
    x_shape = (draw(SMALL), channels, *sizes)

    def numbers(shape: tuple[int, ...], config: TensorQuantizationConfig, most: int) -> Tensor:
        if not exact:
            return torch.randn(shape, generator=random) * most * config.scale.max()  # type: ignore[no-any-return]
        integers = torch.randint(-most, most + 1, shape, generator=random)
        scale = config.scale
        if config.policy.has_property(QuantizationProperty.PER_CHANNEL):
            places = range(len(shape))
            scale = scale.view([-1 if at == config.channel_axis else 1 for at in places])
        # Something to round off, and never a half.
        return (integers + (torch.rand(shape, generator=random) - 0.5) * 0.9) * scale  # type: ignore[no-any-return]

    configs = [configured(draw, torch.Size(x_shape), None, bits, rounding)]
    configs.append(configured(draw, torch.Size(weight), axis, bits, rounding))
    values = [numbers(weight, configs[1], 140)]
    if draw(st.booleans()):
        bias_axis = None if axis is None else 0
        bias = configured(draw, torch.Size([outputs]), bias_axis, 32, rounding)
        bias.scale = (configs[1].scale * configs[0].scale).reshape(bias.scale.shape)
        # As esp-ppq's quantizers leave it, mostly; else its scale is trained, too.
        passive, active = QuantizationStates.PASSIVE, QuantizationStates.ACTIVATED
        bias.state = draw(st.sampled_from((passive, passive, active)))
        values.append(numbers((outputs,), bias, 50))
        configs.append(bias)
    x = numbers(x_shape, configs[0], 150)
    activation = draw(st.sampled_from((None, "Relu", "Clip")))
    output = configured(draw, torch.Size(), None, bits, rounding, (-4, 6))
    platform = TargetPlatform.ESPDL_INT8 if bits == 8 else TargetPlatform.ESPDL_H_PRE_INT16
    graph = _graph(op_type, attributes, values, configs, activation, output, platform)
    return Layer(graph, laid_out(draw, x))


def _geometry(
    draw: Any, op_type: str, spatial: int
) -> tuple[tuple[int, ...], dict[str, Any], int, tuple[int, ...]]:
    """Return the shape of the weights, the attributes, the input's channels and its sizes."""
    if op_type == "Gemm":
        outputs, inputs = draw(SMALL), draw(SMALL)
        return (outputs, inputs), {"transB": 1, "alpha": 1.0, "beta": 1.0}, inputs, ()
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    inputs, outputs = (1, 1) if draw(st.booleans()) else (draw(SMALL), draw(SMALL))
    kernel = tuple(draw(st.sampled_from((1, 2, 3, 5))) for _ in range(spatial))
    dilations = [draw(st.integers(1, 2)) for _ in range(spatial)]
    pads = [draw(st.integers(0, 2)) for _ in range(spatial)]
    # Symmetric ones are read from the list, others are added before.
    ends = pads if draw(st.booleans()) else [draw(st.integers(0, 2)) for _ in range(spatial)]
    if op_type == "ConvTranspose":
        # esp-ppq reads the four of an image in another order.
        pads = ends = [draw(st.integers(0, 2))] * spatial
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    sizes = tuple(
        max(r, 2 * p + 1) + draw(st.integers(0, 3)) for r, p in zip(reach, pads, strict=True)
    )
    attributes = {
        "kernel_shape": list(kernel),
        "strides": [draw(SMALL) for _ in range(spatial)],
        "pads": [*pads, *ends],
        "dilations": dilations,
        "group": groups,
    }
    shape = (outputs * groups, inputs, *kernel)
    if op_type == "ConvTranspose":
        shape = (inputs * groups, outputs, *kernel)
    return shape, attributes, inputs * groups, sizes


def _graph(
    op_type: str,
    attributes: dict[str, Any],
    values: list[Tensor],
    configs: list[TensorQuantizationConfig],
    activation: str | None,
    output: TensorQuantizationConfig,
    platform: TargetPlatform,
) -> BaseGraph:
    graph = BaseGraph("drawn")
    x, y = graph.create_variable("x"), graph.create_variable("y")
    constants = [
        graph.create_variable(f"constant {place}", value, is_parameter=True)
        for place, value in enumerate(values)
    ]
    op = graph.create_operation(op_type, "layer", attributes, inputs=[x, *constants], outputs=[y])
    last = y
    if activation is not None:
        last, limits = graph.create_variable("z"), []
        if activation == "Clip":
            limits = [
                graph.create_variable(name, torch.tensor(value), is_parameter=True)
                for name, value in (("least", 0.0), ("most", 6.0))
            ]
        behind = graph.create_operation(
            activation, "activation", {}, inputs=[y, *limits], outputs=[last]
        )
        # What is between the two is not quantized.
        between = output.copy()
        between.state = QuantizationStates.FP32
        others = [between.copy() for _ in range(1 + len(limits))]
        _quantable(graph, behind, others, output, platform)
        output = between
    _quantable(graph, op, configs, output, platform)
    graph.mark_variable_as_graph_input(x)
    graph.mark_variable_as_graph_output(last)
    return graph


def _quantable(
    graph: BaseGraph,
    op: Any,
    inputs: list[TensorQuantizationConfig],
    output: TensorQuantizationConfig,
    platform: TargetPlatform,
) -> None:
    """Put a quantized op in the place of a float one, as esp-ppq's quantizers do."""
    quantized = QuantableOperation(op, OperationQuantizationConfig(inputs, [output]), platform)
    for variable in op.inputs:
        variable.dest_ops[variable.dest_ops.index(op)] = quantized
    for variable in op.outputs:
        variable.source_op = quantized
    graph.operations[op.name] = quantized
