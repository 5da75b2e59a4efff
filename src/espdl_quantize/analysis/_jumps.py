"""Where the accumulated error jumps by more than the next computing op explains."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from espdl_quantize.ppq import SimplifiedOp


def graphwise_jumps(
    ops: Sequence[SimplifiedOp],
    layerwise: Mapping[str, float],
    graphwise: Mapping[str, float],
    computing_types: Collection[str],
    threshold: float,
) -> list[dict[str, Any]]:
    """Find adjacent computing ops between which a non-computing op must have added error.

    Args:
        ops: the simplified graph, in topological order.
        layerwise: isolated SNR by computing op.
        graphwise: accumulated SNR by computing op.
        computing_types: op types that both analyses cover.
        threshold: smallest excess (graphwise difference less isolated SNR) to keep.

    Returns:
        ``op_prev, op_next, delta_graphwise, isolated_layerwise_op_next, intervening_excess,
        intervening_non_computing_ops`` per pair, by excess descending.
    """
    jumps: list[dict[str, Any]] = []
    previous: SimplifiedOp | None = None
    between: list[SimplifiedOp] = []
    for op in ops:
        if op.op_type not in computing_types:
            between.append(op)
            continue
        if previous is not None and _measured(previous, op, layerwise, graphwise):
            delta = graphwise[op.name] - graphwise[previous.name]
            isolated = layerwise[op.name]
            if delta - isolated > threshold:
                jumps.append(
                    {
                        "op_prev": previous.name,
                        "op_next": op.name,
                        "delta_graphwise": delta,
                        "isolated_layerwise_op_next": isolated,
                        "intervening_excess": delta - isolated,
                        "intervening_non_computing_ops": [
                            {"name": inner.name, "type": inner.op_type} for inner in between
                        ],
                    }
                )
        previous, between = op, []
    return sorted(jumps, key=lambda jump: -jump["intervening_excess"])


def _measured(
    previous: SimplifiedOp,
    op: SimplifiedOp,
    layerwise: Mapping[str, float],
    graphwise: Mapping[str, float],
) -> bool:
    return previous.name in graphwise and op.name in graphwise and op.name in layerwise
