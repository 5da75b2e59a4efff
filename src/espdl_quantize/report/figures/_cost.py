"""Accuracy against what it costs on the chip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from espdl_quantize.record import History, Iteration
from espdl_quantize.report._comparison import cost_of
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report.costs import show_flash, show_ms, show_ram
from espdl_quantize.report.figures._base import (
    Figure,
    Json,
    axis,
    error_bars,
    hover,
    label,
    layout,
)
from espdl_quantize.search import SearchState, relative_loss


@dataclass(frozen=True)
class _Scale:
    """What the horizontal axis counts.

    Attributes:
        title: of the axis.
        caption: how to read it.
        of: the cost of an iteration; None where it is not known.
        interval: from where to where it may be; None where nobody says.
    """

    title: str
    caption: str
    of: Callable[[Iteration], float | None]
    interval: Callable[[Iteration], tuple[float, float] | None] = lambda _: None


def cost_figure(situation: SearchState) -> Figure:
    """Draw the score over the predicted time, with intervals, and the front of the two.

    Where the times are not known, over the number of ops that run slower than in the plain 8-bit
    model.
    """
    history = situation.history
    metric = plain(history.metric or "metric", 60)
    title, ident = f"{metric} against on-device cost", "chart-cost"
    scale = _scale(history)
    priced = [(cost, row) for row in history.scored if (cost := scale.of(row)) is not None]
    best = history.best
    if best is None or not priced or not any(cost for cost, _ in priced):
        return Figure(
            ident,
            title,
            "",
            empty="No setting that was scored uses int16 or splits a layer: each runs as fast as "
            "the plain quantized model.",
        )
    close = situation.options.thresholds.plateau_relative
    cheap = history.cheapest_near_best or _cheapest_close(history, scale, best, close)
    top = max(cost for cost, _ in priced)
    low = min(cost for cost, _ in priced)
    margin = 0.06 * (top - low) + 0.25 * (1 if isinstance(top, int) else 0.02 * top)
    return Figure(
        ident,
        title,
        f"{scale.caption} The line is the best score that a cost buys.",
        _alt(history, scale, cheap, metric),
        [
            _front(history, priced),
            *_points(history, scale, priced, best, cheap, close),
            *_bounds(history, priced),
        ],
        layout(
            360,
            xaxis=axis(
                scale.title,
                range=None if _has_times(history) else [low - margin, top + margin],
                zeroline=False,
            ),
            yaxis=axis(label(metric, 40), zeroline=False),
        ),
    )


def _has_times(history: History) -> bool:
    return any(history.prices.time(row) is not None for row in history.scored)


def _scale(history: History) -> _Scale:
    prices = history.prices
    if not _has_times(history):

        def count(row: Iteration) -> float | None:
            price = prices.of(row)
            return None if price is None else price.slower_ops

        return _Scale(
            "ops in int16 + split layers",
            "Cost = ops in int16 (about twice the cycles and activation memory each) + split "
            "layers (one Add each).",
            count,
        )
    known = [row.cost for row in history.scored if row.cost is not None]
    if any(cost.ms is not None for cost in known):
        return _Scale(
            "predicted ms per inference",
            "Cost = predicted milliseconds on one core. Bars: 95 % of a score; nine in ten of a "
            "time, which moves all points alike, so that they tell the points apart less than it "
            f"seems. Source: {plain(known[0].latency.source, 100)}.",
            lambda row: None if prices.time(row) is None or row.cost is None else row.cost.ms,
            _ms_interval,
        )
    first = history.baseline
    unit = (prices.time(first) if first is not None else None) or known[0].time or 1.0
    return _Scale(
        "predicted time, relative to the baseline",
        "Cost = predicted time relative to the baseline: nothing is published for this chip, so "
        "its milliseconds are not known.",
        lambda row: None if (time := prices.time(row)) is None else time / unit,
    )


def _ms_interval(row: Iteration) -> tuple[float, float] | None:
    latency = None if row.cost is None else row.cost.latency
    if latency is None or latency.low is None or latency.high is None:
        return None
    return latency.low, latency.high


def _cheapest_close(
    history: History, scale: _Scale, best: Iteration, close: float
) -> Iteration | None:
    """Return the cheapest iteration that is within ``close`` of best, where it is cheaper."""
    price = scale.of(best)
    near = [
        (cost, -history.height(row), row.id, row)
        for row in history.scored
        if (cost := scale.of(row)) is not None and relative_loss(history, row, best) <= close
    ]
    if price is None or not near:
        return None
    cheapest = min(near)
    return cheapest[3] if cheapest[0] * 1.01 < price else None


def _front(history: History, priced: list[tuple[float, Iteration]]) -> Json:
    costs: list[float] = []
    values: list[float | None] = []
    tallest = float("-inf")
    for cost, row in sorted(priced, key=lambda pair: (pair[0], -history.height(pair[1]))):
        if history.height(row) > tallest:
            tallest = history.height(row)
            costs.append(cost)
            values.append(row.value)
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
    scale: _Scale,
    priced: list[tuple[float, Iteration]],
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
        how = (
            "that cannot be told from it"
            if history.cheapest_near_best is not None
            else f"within {close:.1%} of it"
        )
        groups.append(
            (
                f"Cheapest {how} ({cheap.name})",
                lambda row: row.id == cheap.id,
                "@target",
                "diamond",
                15,
            )
        )
    for name, belongs, color, symbol, size in groups:
        rows = [(cost, row) for cost, row in priced if belongs(row)]
        if rows:
            shown = [row for _, row in rows]
            trace: Json = {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [cost for cost, _ in rows],
                "y": [row.value for row in shown],
                "marker": {"color": color, "symbol": symbol, "size": size},
                "hoverinfo": "text",
                "hovertext": [_words(history, row) for row in shown],
            }
            spans = [history.noise.interval(row) for row in shown]
            bars = [None if span is None else (span.low, span.high) for span in spans]
            trace |= error_bars("error_y", [row.value for row in shown], bars, color)
            trace |= error_bars(
                "error_x", [cost for cost, _ in rows], map(scale.interval, shown), color
            )
            yield trace


def _bounds(history: History, priced: list[tuple[float, Iteration]]) -> Iterator[Json]:
    """Draw the budget of milliseconds."""
    bound = history.budgets.bounds.get("max_latency_ms")
    values = [row.value for _, row in priced if row.value is not None]
    if bound is not None and values and any(row.cost and row.cost.ms for _, row in priced):
        yield {
            "type": "scatter",
            "mode": "lines",
            "name": f"Budget {number(bound)} ms",
            "x": [bound, bound],
            "y": [min(values), max(values)],
            "line": {"color": "@target", "dash": "dash", "width": 1.5},
            "hoverinfo": "name",
        }


def _words(history: History, row: Iteration) -> str:
    lines = [f"{history.metric or 'metric'} {number(row.value)}"]
    if row.cost is not None:
        lines.append(
            f"{show_ms(row.cost)} ms, {show_ram(row.cost)} KiB of RAM, "
            f"{show_flash(row.cost)} KiB of flash"
        )
    return hover(row.name, *lines, f"Slower on the chip: {cost_of(history, row)}")


def _alt(history: History, scale: _Scale, cheap: Iteration | None, metric: str) -> str:
    best = history.best
    if best is None:
        return ""
    text = (
        f"Scatter chart of {metric} over {scale.title}. The best, "
        f"{best.name}, scores {number(best.value)} at {_short(scale.of(best))}."
    )
    if cheap is not None:
        text += (
            f" {cheap.name} scores {number(cheap.value)} at {_short(scale.of(cheap))}, which is "
            "the cheapest close to it."
        )
    return text


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
