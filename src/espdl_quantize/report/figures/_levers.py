"""What each iteration gave."""

from __future__ import annotations

from espdl_quantize.history import History
from espdl_quantize.report._comparison import changes_of
from espdl_quantize.report._escape import number
from espdl_quantize.report.figures._base import NARROW, Figure, axis, hover, label, layout
from espdl_quantize.search.phase5 import LeverEffect, lever_effects

_SHOWN = 24
_ROW = 30


def lever_figure(history: History) -> Figure:
    """Draw the gain of each scored iteration over the best before it."""
    title, ident = "What each change gave", "chart-levers"
    every = lever_effects(history)
    if not every:
        return Figure(
            ident, title, "", empty="Nothing to compare: it takes two iterations with a score."
        )
    # Of a long run, the steps that moved the metric most; still in the order they were run.
    largest = sorted(every, key=lambda effect: -abs(effect.delta_vs_prior_best))[:_SHOWN]
    effects = [effect for effect in every if effect in largest]
    gains = [effect.delta_vs_prior_best for effect in effects]
    places = list(range(len(effects)))
    best = history.best
    return Figure(
        ident,
        title,
        "Gain over the best iteration before it"
        + ("" if history.direction == "max" else "; to the right is better, that is, lower")
        + (
            f". The {len(effects)} largest of {len(every)} steps."
            if len(effects) < len(every)
            else "."
        ),
        _alt(effects),
        [
            {
                "type": "bar",
                "orientation": "h",
                "x": gains,
                "y": places,
                "marker": {"color": ["@gain" if gain > 0 else "@loss" for gain in gains]},
                "text": [number(gain, sign=True) for gain in gains],
                "textposition": "outside",
                "cliponaxis": False,
                "textfont": {"color": "@text", "size": 12},
                "hoverinfo": "text",
                "hovertext": [_told(history, effect) for effect in effects],
            }
        ],
        layout(
            90 + _ROW * len(effects),
            showlegend=False,
            bargap=0.35,
            margin={"l": 12, "r": 16, "t": 12, "b": 12},
            xaxis=axis("gain", range=_range(gains), zerolinewidth=2),
            yaxis=axis(
                tickvals=places,
                ticktext=[
                    ("\u2605 " if best is not None and effect.iter == best.id else "")
                    + label(f"{effect.iter}: {effect.added_pass}", 34)
                    for effect in effects
                ],
                range=[len(effects) - 0.5, -0.5],
                showgrid=False,
            ),
        ),
        {
            "yaxis.ticktext": [
                label(f"{effect.iter}: {effect.added_pass}", NARROW) for effect in effects
            ]
        },
    )


def _told(history: History, effect: LeverEffect) -> str:
    row = history.get(effect.iter)
    told = effect.added_pass if row is None else changes_of(history, row)
    return hover(f"iter_{effect.iter}: {number(effect.delta_vs_prior_best, sign=True)}", told)


def _range(gains: list[float]) -> list[float]:
    """Leave room for the numbers beside the bars."""
    low, high = min(0.0, *gains), max(0.0, *gains)
    room = 0.22 * ((high - low) or 1.0)
    return [low - room if low < 0 else -room / 4, high + room if high > 0 else room / 4]


def _alt(effects: list[LeverEffect]) -> str:
    gained = sum(effect.delta_vs_prior_best > 0 for effect in effects)
    top = max(effects, key=lambda effect: effect.delta_vs_prior_best)
    told = f"Bar chart of {len(effects)} changes, {gained} of which gained."
    if gained:
        told += (
            f" The largest gain is {number(top.delta_vs_prior_best, sign=True)} in iter_{top.iter}."
        )
    return told
