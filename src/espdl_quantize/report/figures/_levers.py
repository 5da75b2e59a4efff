"""What each iteration gave."""

from __future__ import annotations

from espdl_quantize.record import History, Iteration
from espdl_quantize.report._comparison import changes_of
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report.figures._base import (
    WIDE,
    Figure,
    axis,
    hover,
    label,
    labels_above,
    layout,
)
from espdl_quantize.search.phase5 import LeverEffect, lever_effects

_SHOWN = 24
_ROW = 30
_FRAME = 90


def lever_figure(history: History) -> Figure:
    """Draw the gain of each scored iteration over the best before it."""
    title, ident = "What each change gave", "chart-levers"
    every = lever_effects(history)
    if not every:
        return Figure(
            ident, title, "", empty="Nothing to compare: it takes two iterations with a score."
        )
    effects = _chosen(every, history.best)
    gains = [effect.delta_vs_prior_best for effect in effects]
    places = list(range(len(effects)))
    best = history.best
    named = [_named(effect, best) for effect in effects]
    starred = best is not None and best.id in {effect.iter for effect in effects}
    return Figure(
        ident,
        title,
        "Gain over the best iteration before it"
        + ("" if history.direction == "max" else "; to the right is better, that is, lower")
        + (f"; the star marks the best, {best.name}" if best and starred else "")
        + (
            f". {len(effects)} of {len(every)} steps: what gained, then the largest losses."
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
            _FRAME + _ROW * len(effects),
            showlegend=False,
            bargap=0.35,
            margin={"l": 12, "r": 16, "t": 12, "b": 12},
            xaxis=axis("gain", range=_range(gains, 0.16), zerolinewidth=2),
            yaxis=axis(
                tickvals=places,
                ticktext=named,
                range=[len(effects) - 0.5, -0.5],
                showgrid=False,
                zeroline=False,
            ),
        ),
        {
            **labels_above(named, 15, _FRAME),
            "xaxis.range": _range(gains, 0.28),
        },
    )


def _chosen(every: tuple[LeverEffect, ...], best: Iteration | None) -> list[LeverEffect]:
    """Of a long run, take what gained, then what lost most; in the order they were run."""
    by_weight = sorted(
        every,
        key=lambda effect: (
            best is None or effect.iter != best.id,
            effect.delta_vs_prior_best <= 0,
            -abs(effect.delta_vs_prior_best),
        ),
    )
    taken = {effect.iter for effect in by_weight[:_SHOWN]}
    return [effect for effect in every if effect.iter in taken]


def _named(effect: LeverEffect, best: Iteration | None) -> str:
    """Of a change, the start says most."""
    star = "\u2605 " if best is not None and effect.iter == best.id else ""
    return label(star + plain(f"{effect.iter}: {effect.added_pass}", WIDE), WIDE + len(star))


def _told(history: History, effect: LeverEffect) -> str:
    row = history.get(effect.iter)
    changes = effect.added_pass if row is None else changes_of(history, row)
    return hover(f"iter_{effect.iter}: {number(effect.delta_vs_prior_best, sign=True)}", changes)


def _range(gains: list[float], share: float) -> list[float]:
    """Leave room, a share of what the bars take, for the numbers beside them."""
    low, high = min(0.0, *gains), max(0.0, *gains)
    room = share * ((high - low) or 1.0)
    return [low - room if low < 0 else -room / 8, high + room if high > 0 else room / 8]


def _alt(effects: list[LeverEffect]) -> str:
    gained = sum(effect.delta_vs_prior_best > 0 for effect in effects)
    top = max(effects, key=lambda effect: effect.delta_vs_prior_best)
    text = f"Bar chart of {len(effects)} changes, {gained} of which gained."
    if gained:
        text += (
            f" The largest gain is {number(top.delta_vs_prior_best, sign=True)} in iter_{top.iter}."
        )
    return text
