"""What a trigger of the playbook answers with, and the statistics that triggers look at."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.record import Evidence, VariableStats
from espdl_quantize.search._thresholds import Thresholds


@dataclass(frozen=True)
class Finding:
    """A trigger that matched.

    Attributes:
        rule: "R1" to "R10".
        method: what the playbook recommends, in words.
        text: the ops and the numbers that made it match.
        ops: names of the ops, worst first.
    """

    rule: str
    method: str
    text: str
    ops: tuple[str, ...] = ()


def worst_ops(evidence: Evidence, limits: Thresholds) -> list[str]:
    """Return the ops whose distributions count, worst first; all where no error is known."""
    worst = [op for op, _ in evidence.worst(limits.rule_layers)]
    return worst or list(dict.fromkeys(stats.op for stats in evidence.stats))


def weight_stats(evidence: Evidence, op: str) -> VariableStats | None:
    """Return the statistics of the weight of an op, which is its second input.

    Without the graph, the first parameter counts: esp-ppq lists the inputs in order, and the bias
    comes after the weight.
    """
    parameters = [stats for stats in evidence.rows(op) if stats.is_parameter]
    node = evidence.op(op)
    if node is not None and len(node.inputs) > 1:
        named = [stats for stats in parameters if stats.variable == node.inputs[1]]
        parameters = named or parameters
    return parameters[0] if parameters else None


def has_bias(evidence: Evidence, op: str) -> bool:
    """Tell whether a computing op has a bias, which is its third input."""
    node = evidence.op(op)
    if node is not None:
        return len(node.inputs) >= 3
    return sum(stats.is_parameter for stats in evidence.rows(op)) >= 2


def max_over_std(stats: VariableStats) -> float | None:
    """Return the largest magnitude of a variable in units of its standard deviation."""
    if (
        stats.float_max is None
        or stats.float_min is None
        or not stats.float_std
        or stats.float_std < 0
    ):
        return None
    return max(abs(stats.float_max), abs(stats.float_min)) / stats.float_std
