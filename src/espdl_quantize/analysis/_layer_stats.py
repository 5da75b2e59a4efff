"""The statistics of the worst layers, in the order of their error."""

from __future__ import annotations

from collections.abc import Iterable

from espdl_quantize.ppq.measure import Row


def worst_layer_stats(statistics: list[Row], worst_first: Iterable[str], top_k: int) -> list[Row]:
    """Select the rows of the ``top_k`` worst layers.

    Args:
        statistics: every row of the statistical analysis.
        worst_first: op names, by layerwise error descending.
        top_k: how many layers to keep.
    """
    by_op: dict[str, list[Row]] = {}
    for row in statistics:
        by_op.setdefault(row["Op name"], []).append(row)
    worst = list(worst_first)[:top_k]
    return [row for name in worst for row in by_op.get(name, [])]
