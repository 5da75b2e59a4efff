"""Changes that would change nothing, as best's graph and weights tell before anything runs."""

from __future__ import annotations

from espdl_quantize.record import Evidence, GraphOp
from espdl_quantize.search._describe import ratio
from espdl_quantize.search.triggers._finding import weight_stats

_WEIGHTED = frozenset({"Conv", "Gemm", "ConvTranspose"})
"""``EQUALIZATION_OPERATION_TYPE`` of esp-ppq's equalization; its bias correction has the same."""

_CROSSED = {
    1: frozenset(
        {"Relu", "MaxPool", "GlobalMaxPool", "PRelu", "AveragePool", "GlobalAveragePool"}
        | {"LeakyRelu", "Identity"}
    )
}
_CROSSED[2] = _CROSSED[1] | {"Add", "Sub"}
"""``OPTIMIZATION_LAYERTYPE_CONFIG`` of esp-ppq's equalization: what lies between two layers."""

_WITH_BIAS = 3
"""Inputs of such an op that has a bias."""

_MARGIN = 0.9
"""Share of a threshold below which a weight is sure to be: the artifacts have the weights of best,
and training has moved them a little."""


def largest_weight(evidence: Evidence, op: str) -> float | None:
    """Return the largest magnitude among an op's weights, where the artifacts have it."""
    weight = weight_stats(evidence, op)
    if weight is None or weight.float_max is None or weight.float_min is None:
        return None
    return max(abs(weight.float_max), abs(weight.float_min))


def is_surely_below(evidence: Evidence, op: str, threshold: float) -> bool:
    """Tell whether no weight of an op reaches a threshold."""
    largest = largest_weight(evidence, op)
    return largest is not None and largest < _MARGIN * threshold


def idle_equalization(evidence: Evidence, threshold: float, level: int) -> str | None:
    """Say why equalization would leave every weight as it is; None where it would not.

    esp-ppq equalizes layers that follow each other with nothing else between them than ops of some
    types, and of these the channels whose weights on both sides add up to the threshold.
    """
    if not evidence.ops:
        return None
    weighted = [op for op in evidence.ops if op.op_type in _WEIGHTED]
    if not layers_followed(evidence, level):
        return "no layer with weights follows another one across ops that equalization crosses"
    largest = [largest_weight(evidence, op.name) for op in weighted]
    known = sorted((value for value in largest if value is not None), reverse=True)
    if len(known) == len(weighted) and sum(known[:2]) < _MARGIN * threshold:
        return (
            f"the largest weights of two layers, {ratio(known[0])} and {ratio(known[1])}, do not "
            f"add up to value_threshold {threshold:g}, so equalization would leave them alone"
        )
    return None


def idle_bias_correction(evidence: Evidence) -> str | None:
    """Say why bias correction would change nothing: no op has a bias."""
    if not evidence.ops or any(
        op.op_type in _WEIGHTED and len(op.inputs) >= _WITH_BIAS for op in evidence.ops
    ):
        return None
    return "no Conv, ConvTranspose or Gemm has a bias to correct"


def layers_followed(evidence: Evidence, level: int) -> frozenset[str]:
    """Return the layers with weights that another one follows across ops that equalization crosses.

    Args:
        evidence: has the graph.
        level: ``opt_level`` of the pass.
    """
    writers: dict[str, list[GraphOp]] = {}
    for op in evidence.ops:
        for variable in op.outputs:
            writers.setdefault(variable, []).append(op)
    followed: set[str] = set()
    # From every layer backwards, each tensor once: a graph may have thousands of layers.
    left = [name for op in evidence.ops if op.op_type in _WEIGHTED for name in op.inputs]
    seen = set(left)
    while left:
        for op in writers.get(left.pop(), ()):
            if op.op_type in _WEIGHTED:
                followed.add(op.name)
            elif op.op_type in _CROSSED[level]:
                new = set(op.inputs) - seen
                seen |= new
                left += new
    return frozenset(followed)
