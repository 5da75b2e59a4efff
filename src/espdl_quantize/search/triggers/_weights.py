"""R3 and R4: what the distributions of weights say."""

from __future__ import annotations

from espdl_quantize.record import Evidence
from espdl_quantize.search._describe import ratio
from espdl_quantize.search._thresholds import Thresholds
from espdl_quantize.search.triggers._finding import Finding, max_over_std, weight_row, worst_ops

_CONVS = frozenset({"Conv", "ConvTranspose"})
ACTIVATIONS = frozenset({"Relu", "Clip", "PRelu", "LeakyRelu", "Swish", "Sigmoid", "HardSwish"})


def r3_uneven_channels(evidence: Evidence, limits: Thresholds) -> Finding | None:
    """Channels of very different size in a convolution whose factor the next one could take.

    The artifacts hold no per-channel maxima; a high kurtosis stands for them.
    """
    for op in worst_ops(evidence, limits):
        weight = weight_row(evidence, op)
        kurtosis = weight.float_kurtosis if weight else None
        if kurtosis is None or kurtosis <= limits.r3_kurtosis:
            continue
        partner = next_conv(evidence, op)
        if partner:
            told = f"weight of {op}: kurtosis {ratio(kurtosis)}, followed by {partner}"
            return Finding("R3", "equalization", told, (op, partner))
    return None


def r4_weight_outliers(
    evidence: Evidence, limits: Thresholds, equalization_failed: bool = True
) -> Finding | None:
    """Single huge weights that equalization could not even out."""
    if not equalization_failed:
        return None
    for op in worst_ops(evidence, limits):
        weight = weight_row(evidence, op)
        if weight is None or weight.float_kurtosis is None:
            continue
        peak = max_over_std(weight)
        if weight.float_kurtosis > limits.r4_kurtosis and (peak or 0) > limits.r4_max_over_std:
            told = f"weight of {op}: kurtosis {ratio(weight.float_kurtosis)}, max/std {ratio(peak)}"
            return Finding("R4", "weight_split on at most 3 layers", told, (op,))
    return None


def next_conv(evidence: Evidence, op: str) -> str | None:
    """Return the convolution that follows ``op`` directly or behind one activation."""
    node = evidence.op(op)
    if node is None or node.op_type not in _CONVS:
        return None
    for _ in range(2):
        outputs = set(node.outputs)
        followers = [other for other in evidence.ops if outputs & set(other.inputs)]
        if len(followers) != 1:
            return None
        node = followers[0]
        if node.op_type in _CONVS:
            return node.name
        if node.op_type not in ACTIVATIONS:
            return None
    return None
