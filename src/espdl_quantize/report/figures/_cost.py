"""Accuracy against what it costs on the chip."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from espdl_quantize.record import History, Iteration
from espdl_quantize.report._comparison import cost_of
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report.figures._base import Figure, Json, axis, hover, label, layout
from espdl_quantize.search import SearchState, relative_loss, runtime_cost


def cost_figure(situation: SearchState) -> Figure:
    """Draw the score over the number of ops that run slower than in the plain 8-bit model."""
    history = situation.history
    metric = plain(history.metric or "metric", 60)
    title, ident = f"{metric} against on-device cost", "chart-cost"
    priced = [(slower_ops(row), row) for row in history.scored if row.setting is not None]
    best = history.best
    if best is None or not any(cost for cost, _ in priced):
        return Figure(
            ident,
            title,
            "",
            empty="No setting that was scored uses int16 or splits a layer: each runs as fast as "
            "the plain quantized model.",
        )
    close = situation.options.thresholds.plateau_relative
    cheap = cheapest_near_best(history, best, close)
    top = max(cost for cost, _ in priced)
    return Figure(
        ident,
        title,
        "Cost = ops in int16 (about twice the cycles and activation memory each) + split layers "
        "(one Add each). The line is the best score that a cost buys.",
        _alt(best, cheap, metric),
        [_frontier(history, priced), *_points(history, priced, best, cheap, close)],
        layout(
            360,
            xaxis=axis(
                "ops in int16 + split layers",
                dtick=max(1, -(-top // 10)),
                range=[-0.06 * top - 0.25, 1.06 * top + 0.25],
                zeroline=False,
            ),
            yaxis=axis(label(metric, 40), zeroline=False),
        ),
    )


def slower_ops(row: Iteration) -> int:
    """Count the ops that cost time on the chip."""
    if row.setting is None:
        return 0
    return runtime_cost(row.setting).slower_ops


def cheapest_near_best(history: History, best: Iteration, close: float) -> Iteration | None:
    """Return the cheapest iteration that is within ``close`` of best, where it is not best."""
    near = [
        row
        for row in history.scored
        if row.setting is not None and relative_loss(history, row, best) <= close
    ]
    cheapest = min(
        near, key=lambda row: (slower_ops(row), -history.height(row), row.id), default=None
    )
    if cheapest is None or slower_ops(cheapest) >= slower_ops(best):
        return None
    return cheapest


def _frontier(history: History, priced: list[tuple[int, Iteration]]) -> Json:
    costs: list[int] = []
    values: list[float | None] = []
    tallest = float("-inf")
    for cost, row in sorted(priced, key=lambda pair: (pair[0], -history.height(pair[1]))):
        if history.height(row) > tallest:
            tallest = history.height(row)
            costs.append(cost)
            values.append(row.value)
    if values:
        costs.append(max(cost for cost, _ in priced))
        values.append(values[-1])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Best for its cost",
        "x": costs,
        "y": values,
        "line": {"color": "@muted", "shape": "hv", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }


def _points(
    history: History,
    priced: list[tuple[int, Iteration]],
    best: Iteration,
    cheap: Iteration | None,
    close: float,
) -> Iterator[Json]:
    chosen = {best.id} | ({cheap.id} if cheap is not None else set())
    groups: list[tuple[str, Callable[[Iteration], bool], str, str, int]] = [
        ("Iterations", lambda row: row.id not in chosen, "@base", "circle", 10),
        (f"Best ({best.name})", lambda row: row.id == best.id, "@best", "star", 18),
    ]
    if cheap is not None:
        name = f"Cheapest within {close:.1%} of it ({cheap.name})"
        groups.append((name, lambda row: row.id == cheap.id, "@target", "diamond", 15))
    for name, belongs, color, symbol, size in groups:
        rows = [(cost, row) for cost, row in priced if belongs(row)]
        if rows:
            yield {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [cost for cost, _ in rows],
                "y": [row.value for _, row in rows],
                "marker": {"color": color, "symbol": symbol, "size": size},
                "hoverinfo": "text",
                "hovertext": [
                    hover(
                        row.name,
                        f"{history.metric or 'metric'} {number(row.value)}",
                        f"Slower on the chip: {cost_of(row)}",
                    )
                    for _, row in rows
                ],
            }


def _alt(best: Iteration, cheap: Iteration | None, metric: str) -> str:
    text = (
        f"Scatter chart of {metric} over the number of ops that run slower. The best, "
        f"{best.name}, scores {number(best.value)} with {slower_ops(best)}."
    )
    if cheap is not None:
        text += (
            f" {cheap.name} scores {number(cheap.value)} with {slower_ops(cheap)}, which is the "
            "cheapest close to it."
        )
    return text
