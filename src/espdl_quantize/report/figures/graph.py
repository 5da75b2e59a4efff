"""The graph of the model as a map of where the error is; the page's script draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from espdl_quantize.record import Evidence, GraphOp
from espdl_quantize.report._escape import plain

MOST_OPS = 20_000
"""Ops of a graph that is drawn; a larger one would make the page too large."""

_LONGEST = 120


@dataclass(frozen=True)
class GraphMap:
    """The ops in topological order, what each reads, and its error.

    Attributes:
        id: the element's id.
        title: heading.
        caption: how to read it.
        alt: what it shows, for those who do not see it.
        ops: of each name, type, group, the places of the ops that it reads, and its errors.
        groups: names of the groups; the ops of one can be folded together.
        views: names of the errors, in the order in which the ops have them.
        limit: error above which a layer needs work.
    """

    shape: ClassVar[str] = "graph"
    id: str
    title: str
    caption: str
    alt: str
    ops: Sequence[Sequence[Any]] = ()
    groups: Sequence[str] = ()
    views: Sequence[str] = ()
    limit: float = 0.05

    def to_json(self) -> dict[str, Any]:
        """Return what the page's script draws."""
        return {
            "ops": self.ops,
            "groups": self.groups,
            "views": self.views,
            "limit": self.limit,
        }


def graph_map(best: Evidence, baseline: Evidence | None, needs_work: float) -> GraphMap | None:
    """Return the map of a model; None where its graph is not known, or is too large.

    Args:
        best: the artifacts of the best iteration.
        baseline: those of the baseline; None where it is the best.
        needs_work: error above which a layer is worth attention.
    """
    ops = best.ops
    if not ops or len(ops) > MOST_OPS:
        return None
    hot = {op.op: op.max_snr for op in best.hot_ops}
    alone: dict[str, float | None] = {**hot, **{row.op: row.snr for row in best.layerwise}}
    views: list[tuple[str, Mapping[str, float | None]]] = [("this op alone, best", alone)]
    if best.graphwise:
        views.append(("accumulated up to here, best", {row.op: row.snr for row in best.graphwise}))
    if baseline is not None and baseline.layerwise:
        before: dict[str, float | None] = {
            **{op.op: op.max_snr for op in baseline.hot_ops},
            **{row.op: row.snr for row in baseline.layerwise},
        }
        views.append(("this op alone, baseline", before))
    groups = _groups(ops)
    names = list(dict.fromkeys(groups))
    place = {name: at for at, name in enumerate(names)}
    made_by = {variable: at for at, op in enumerate(ops) for variable in op.outputs}
    rows = []
    for at, op in enumerate(ops):
        reads = sorted({made_by[name] for name in op.inputs if made_by.get(name, at) < at})
        errors = [_rounded(view.get(op.name)) for _, view in views]
        name = plain(op.name, _LONGEST)
        rows.append([name, plain(op.op_type, 40), place[groups[at]], reads, *errors])
    known = sum(alone.get(op.name) is not None for op in ops)
    return GraphMap(
        "graph-map",
        "The graph, by error",
        "Every op below what it reads, coloured by its noise:signal power ratio on a log scale: "
        f"green is well, yellow is about {needs_work:g}, where work begins, red is above; grey was "
        "not measured. A block with a number stands for the ops of that part of the network: click "
        "to open it, and an op of it to close it again.",
        f"Map of the {len(ops)} ops of the model, {known} of them with a measured error. The worst "
        "are in the tables beside it.",
        rows,
        [plain(name, _LONGEST) for name in names],
        [name for name, _ in views],
        needs_work,
    )


def _groups(ops: Sequence[GraphOp]) -> list[str]:
    """Name the part of the network that each op is of: the first two steps of its path."""
    groups = []
    for op in ops:
        steps = [step for step in op.name.replace(".", "/").split("/") if step]
        groups.append("/".join(steps[: min(2, len(steps) - 1)]) if len(steps) > 1 else "")
    return groups


def _rounded(value: float | None) -> float | None:
    return None if value is None or value < 0 else float(f"{value:.3g}")
