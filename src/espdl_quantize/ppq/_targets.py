"""Reads a target's facts off the quantizer that esp-ppq builds for it.

esp-ppq has no table of target facts. Its quantizer is asked instead for the configuration of a
one-op graph, so that a chip which a newer version adds is described without a change here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from espdl_quantize.core import InstallationError
from espdl_quantize.targets._facts import Rounding, TargetFacts

_NAME_TABLES = ("_PIE_V2_TARGETS", "_PIE_V1_TARGETS", "_PIE_NONE_TARGETS")
"""Where esp_ppq.api.espdl_interface keeps the chip names that it accepts, by instruction set."""


@cache
def target_names() -> tuple[str, ...]:
    """Return every chip name that the installed esp-ppq accepts, sorted.

    Raises:
        InstallationError: esp-ppq is missing, or keeps its chip names elsewhere.
    """
    try:
        from esp_ppq.api import espdl_interface
    except ImportError as error:
        raise InstallationError(f"esp-ppq cannot be imported: {error}") from error
    names: set[str] = set()
    for table in _NAME_TABLES:
        if not hasattr(espdl_interface, table):
            raise InstallationError(
                f"the installed esp-ppq has no esp_ppq.api.espdl_interface.{table}",
                "install esp-ppq >=1.3.12,<1.4",
            )
        names |= getattr(espdl_interface, table)
    return tuple(sorted(names))


@cache
def probe_target(name: str, num_of_bits: int = 8) -> TargetFacts:
    """Describe a chip by the configuration that its quantizer gives a small convolution.

    Args:
        name: one of :func:`target_names`.
        num_of_bits: 8 or 16.

    Raises:
        InstallationError: the chip is unknown to the installed esp-ppq.
    """
    if name not in target_names():
        raise InstallationError(
            f"target {name!r} is unknown to the installed esp-ppq",
            f"choose one of {', '.join(target_names())}",
        )
    import esp_ppq.lib as ppq_lib
    from esp_ppq.api import get_target_platform
    from esp_ppq.core import QuantizationProperty, RoundingPolicy

    platform = get_target_platform(name, num_of_bits)
    graph, conv = _one_conv_graph()
    conv.platform = platform
    config = ppq_lib.Quantizer(platform, graph).init_quantize_config(conv)
    activation, weight, bias = config.input_quantization_config
    rounding: Rounding = (
        "half-even" if activation.rounding == RoundingPolicy.ROUND_HALF_EVEN else "half-up"
    )
    return TargetFacts(
        name=name,
        num_of_bits=num_of_bits,
        power_of_two=activation.policy.has_property(QuantizationProperty.POWER_OF_2),
        per_channel_weights=weight.policy.has_property(QuantizationProperty.PER_CHANNEL),
        rounding=rounding,
        bias_bits=bias.num_of_bits,
    )


def _one_conv_graph() -> tuple[Any, Any]:
    import torch
    from esp_ppq.core import NetworkFramework
    from esp_ppq.IR import BaseGraph

    graph = BaseGraph(name="probe", built_from=NetworkFramework.ONNX)
    image = graph.create_variable(name="image")
    weight = graph.create_variable(name="weight", value=torch.zeros(1, 1, 1, 1), is_parameter=True)
    bias = graph.create_variable(name="bias", value=torch.zeros(1), is_parameter=True)
    output = graph.create_variable(name="output")
    conv = graph.create_operation(
        op_type="Conv", name="conv", inputs=[image, weight, bias], outputs=[output]
    )
    return graph, conv


@cache
def exported_op_types() -> frozenset[str]:
    """Return the types of the ops whose layout esp-ppq's exporter knows by name."""
    from esp_ppq.parser.espdl import espdl_typedef as sets

    return frozenset(
        sets.PASSIVE_LAYOUT_OP_SET
        | sets.CONV_LAYOUT_OP_SET
        | sets.ADD_LIKE_OP_SET
        | sets.AXIS_TRANSFORM_OP_SET
        | sets.OTHER_OP_SET
    )


@cache
def computing_op_types() -> frozenset[str]:
    """Return the types of the ops that esp-ppq counts as computing, such as Conv and Gemm."""
    from esp_ppq.core.common import COMPUTING_OP

    return frozenset(COMPUTING_OP)


def has_vector_unit(chip: str) -> bool:
    """Tell whether esp-ppq packs weights for a chip's vector unit."""
    from esp_ppq.api import espdl_interface

    return chip not in espdl_interface._PIE_NONE_TARGETS
