"""The metric over the iterations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

from espdl_quantize.record import History, Iteration
from espdl_quantize.report._comparison import OVER_BUDGET, changes_of, delta_of, outcome_of
from espdl_quantize.report._escape import plain
from espdl_quantize.report.figures._base import (
    Figure,
    Json,
    axis,
    error_bars,
    hover,
    label,
    layout,
)
from espdl_quantize.report.scores import show_score
from espdl_quantize.search import SearchState

PHASE_NAMES = {1: "Baseline", 2: "Calibration sweep", 3: "Levers", 5: "Open search"}

_OUTCOMES = (
    ("first score", "@base", "circle"),
    ("new best", "@gain", "circle"),
    ("worse", "@loss", "circle-open"),
    ("no change", "@muted", "circle-open"),
    ("within noise", "@muted", "circle"),
    (OVER_BUDGET, "@muted", "diamond-open"),
)
_LETTER = 7 / 900
"""Width of a letter as a share of the chart's, on a desk and on a phone."""
_LETTER_ON_A_PHONE = 7 / 300


def metric_figure(situation: SearchState) -> Figure:
    """Draw every iteration, the best so far, the float model, the target and the phases."""
    history = situation.history
    metric = plain(history.metric or "metric", 60)
    title, ident = f"{metric} per iteration", "chart-metric"
    if not history.scored:
        return Figure(ident, title, "", empty="No iteration has a score yet.")
    rows = history.iterations
    every = math.ceil(len(rows) / 20)
    few = math.ceil(len(rows) / 8)
    ids = [str(row.id) for row in rows]
    phases = phase_of(situation)
    return Figure(
        ident,
        title,
        f"{'Higher' if history.direction == 'max' else 'Lower'} is better. Shaded bands: "
        + ", ".join(f"{phase} {name.lower()}" for phase, name in PHASE_NAMES.items())
        + ". A cross at the bottom is a run that failed."
        + (
            " Thin bars are 95 % intervals."
            if any(history.noise.interval(row) for row in history.scored)
            else " The scores' noise is not known, so small differences may be chance."
        ),
        _alt(history, metric),
        [*_lines(situation), *_points(history)],
        layout(
            440,
            xaxis=axis(
                "iteration",
                range=[-0.5, len(rows) - 0.5],
                tickvals=list(range(0, len(rows), every)),
                ticktext=ids[::every],
                showgrid=False,
                zeroline=False,
            ),
            yaxis=axis(label(metric, 40), zeroline=False),
            # Failed runs have no value; their axis of their own keeps them at the bottom.
            yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
            margin={"l": 12, "r": 16, "t": 64, "b": 12},
            legend={"orientation": "h", "x": 0, "y": 1.08, "yanchor": "bottom"},
            shapes=_bands(phases),
            annotations=_band_names(phases, _LETTER),
        ),
        {
            "xaxis.tickvals": list(range(0, len(rows), few)),
            "xaxis.ticktext": ids[::few],
            "annotations": _band_names(phases, _LETTER_ON_A_PHONE),
            "height": 480,
        },
    )


def phase_of(situation: SearchState) -> list[int]:
    """Return the phase that each iteration was run in: 1, 2, 3 or 5."""
    history = situation.history
    swept = situation.sweep_complete_after or len(history.iterations)
    cutoff = situation.opened_after
    phases = []
    for place, row in enumerate(history.iterations):
        if place == 0:
            phases.append(1)
        elif place < swept:
            phases.append(2)
        else:
            phases.append(5 if 0 <= cutoff < row.id else 3)
    return phases


def _lines(situation: SearchState) -> Iterator[Json]:
    history, target = situation.history, situation.options.target
    ends = [-0.5, len(history.iterations) - 0.5]
    best = history.best
    reference = None if best is None else history.float_value(best)
    for name, value, color, dash in (
        ("Float model", reference, "@float", "dash"),
        ("Target", target, "@target", "dot"),
    ):
        if value is not None:
            yield {
                "type": "scatter",
                "mode": "lines",
                "name": f"{name} {show_score(history, value)}",
                "x": ends,
                "y": [value, value],
                "line": {"color": color, "dash": dash, "width": 2},
                "hoverinfo": "name",
            }
    # The tool's own best, which of equals within noise is the cheaper or the quieter one.
    bests = [history.prior_best[row.id] for row in history.iterations[1:]] + [best]
    known = [(place, row) for place, row in enumerate(bests) if row is not None]
    places = [place for place, _ in known]
    values = [row.value for _, row in known]
    yield {
        "type": "scatter",
        "mode": "lines",
        "name": "Best so far",
        "x": places,
        "y": values,
        "line": {"color": "@best", "shape": "hv", "width": 2.5},
        "hoverinfo": "skip",
    }


def _points(history: History) -> Iterator[Json]:
    rows = list(enumerate(history.iterations))
    for outcome, color, symbol in _OUTCOMES:
        chosen = [(place, row) for place, row in rows if outcome_of(history, row) == outcome]
        if chosen:
            yield _markers(history, chosen, outcome.capitalize(), color, symbol)
    idle = [(place, row) for place, row in rows if row.is_without_effect]
    failed = [
        (place, row) for place, row in rows if row.value is None and not row.is_without_effect
    ]
    for chosen, name, color, symbol in (
        (failed, "Failed", "@loss", "x-thin"),
        (idle, "No effect", "@muted", "line-ew"),
    ):
        if chosen:
            trace = _markers(history, chosen, name, color, symbol)
            yield {**trace, "y": [0.04] * len(chosen), "yaxis": "y2"}


def _markers(
    history: History, rows: list[tuple[int, Iteration]], name: str, color: str, symbol: str
) -> Json:
    values = [row.value for _, row in rows]
    spans = [history.noise.interval(row) for _, row in rows]
    ends = [None if span is None else (span.low, span.high) for span in spans]
    return {
        **error_bars("error_y", values, ends, color),
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [place for place, _ in rows],
        "y": values,
        "marker": {
            "color": color,
            "symbol": symbol,
            "size": 10,
            "line": {"width": 3 if "thin" in symbol else 2, "color": color},
        },
        "hoverinfo": "text",
        "hovertext": [_told(history, row) for _, row in rows],
    }


def _told(history: History, row: Iteration) -> str:
    if row.is_without_effect:
        return hover(f"{row.name}: {outcome_of(history, row)}", changes_of(history, row))
    if row.value is None:
        return hover(f"{row.name}: failed", changes_of(history, row), str(row.failure or ""))
    delta = delta_of(history, row)
    scored = f"{history.metric or 'metric'} {show_score(history, row.value)}"
    if delta is not None:
        scored += f" ({show_score(history, delta, sign=True)} against the best before)"
    span = history.noise.interval(row)
    interval = "" if span is None else f"95 % interval {span.low:.4g} to {span.high:.4g}"
    title = f"{row.name}: {outcome_of(history, row)}"
    return hover(title, scored, interval, changes_of(history, row))


def _bands(phases: list[int]) -> list[Json]:
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": start - 0.5,
            "x1": start + count - 0.5,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": f"@phase{phase}",
        }
        for phase, start, count in _stretches(phases)
    ]


def _band_names(phases: list[int], letter: float) -> list[Json]:
    """Name each band; one that is too narrow for its name has the number of the phase alone."""
    notes = []
    for phase, start, count in _stretches(phases):
        name = f"{phase} {PHASE_NAMES[phase]}"
        notes.append(
            {
                "xref": "x",
                "yref": "paper",
                "x": start + (count - 1) / 2,
                "y": 1,
                "yanchor": "bottom",
                "showarrow": False,
                "text": name if len(name) * letter <= count / len(phases) else str(phase),
                "font": {"size": 12, "color": "@muted"},
            }
        )
    return notes


def _stretches(phases: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield each run of equal phases with its start and its length."""
    start = 0
    for phase, members in groupby(phases):
        count = len(list(members))
        yield phase, start, count
        start += count


def _alt(history: History, metric: str) -> str:
    best, first = history.best, history.scored[0]
    text = f"Chart of {metric} over {len(history.iterations)} iterations"
    text += f", {len(history.failed)} of them failed" if history.failed else ""
    if best is None:
        return f"{text}."
    return (
        f"{text}. The first score is {show_score(history, first.value)} ({first.name}), "
        f"the best {show_score(history, best.value)} ({best.name})."
    )
