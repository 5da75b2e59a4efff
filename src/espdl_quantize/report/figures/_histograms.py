"""How the values of the worst layers are distributed, float against quantized."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.record import Evidence, VariableStats
from espdl_quantize.report._escape import plain
from espdl_quantize.report.figures._base import Figure, Json, axis, label, layout

_SHOWN = 4
_MOST_BINS = 256


def histogram_figures(evidence: Evidence, name: str) -> Iterator[Figure]:
    """Draw the outputs of the worst layers, as far as their statistics were kept.

    Args:
        evidence: the artifacts of an iteration.
        name: of the iteration.
    """
    count = 0
    for op, snr in evidence.worst(2 * _SHOWN):
        stats = next((row for row in evidence.rows(op) if _is_drawn(row)), None)
        if stats is None:
            continue
        yield _figure(stats, snr, name, count)
        count += 1
        if count == _SHOWN:
            return


def _is_drawn(stats: VariableStats) -> bool:
    return (
        stats.is_output
        and not stats.is_parameter
        and 1 < len(stats.float_hist) <= _MOST_BINS
        and stats.float_min is not None
        and stats.float_max is not None
        and stats.float_min < stats.float_max
    )


def _figure(stats: VariableStats, snr: float, name: str, count: int) -> Figure:
    sides = [
        ("Float", "@base", stats.float_hist, stats.float_min, stats.float_max),
        (
            "Quantized",
            "@best",
            stats.quantized_hist,
            stats.quantized_min,
            stats.quantized_max,
        ),
    ]
    data = [
        _outline(side, color, hist, low, high)
        for side, color, hist, low, high in sides
        if low is not None and high is not None and low < high and 1 < len(hist) <= _MOST_BINS
    ]
    return Figure(
        f"chart-histogram-{count}",
        f"Values at the output of {plain(stats.op, 120)}",
        f"Float against quantized in {name}, on calibration samples, shares per bin on a log "
        f"scale; this layer alone has noise:signal {snr:.3g}. What is cut off at an end was "
        "clipped; teeth are steps of a coarse scale.",
        f"Histogram of the output of {plain(stats.op, 120)}, float against quantized.",
        data,
        layout(
            280,
            barmode="overlay",
            xaxis=axis("value", zeroline=False),
            yaxis=axis(label("share of the values"), type="log", exponentformat="power"),
        ),
    )


def _outline(side: str, color: str, hist: tuple[float, ...], low: float, high: float) -> Json:
    total = sum(count for count in hist if count > 0) or 1.0
    width = (high - low) / len(hist)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": side,
        "x": [float(f"{low + (at + 0.5) * width:.5g}") for at in range(len(hist))],
        "y": [float(f"{count / total:.3g}") if count > 0 else None for count in hist],
        "line": {"color": color, "shape": "hvh", "width": 2},
        "hoverinfo": "x+y+name",
    }
