"""What each iteration gave."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.core import Direction
from espdl_quantize.record import History, Iteration
from espdl_quantize.report._comparison import changes_of, delta_of
from espdl_quantize.report._escape import plain
from espdl_quantize.report.figures._base import (
    WIDE,
    Figure,
    axis,
    error_bars,
    hover,
    label,
    labels_above,
    layout,
)
from espdl_quantize.report.scores import show_score
from espdl_quantize.search.phase5 import lever_effects

_SHOWN = 24
_ROW = 30
_FRAME = 90


@dataclass(frozen=True)
class _Effect:
    """What one scored iteration did to the best before it, in the numbers of the table.

    Attributes:
        row: the iteration.
        change: of the score, as the metric counts it.
        gain: the same, positive = better.
        words: what was changed.
        is_chance: it is within noise.
        span: the 95 % interval of the change; None where it is not known.
    """

    row: Iteration
    change: float
    gain: float
    words: str
    is_chance: bool
    span: tuple[float, float] | None

    @property
    def color(self) -> str:
        return "@muted" if self.is_chance else "@gain" if self.gain > 0 else "@loss"


def lever_figure(history: History) -> Figure:
    """Draw what each scored iteration changed against the best before it."""
    title, ident = "What each change gave", "chart-levers"
    every = _effects(history)
    if not every:
        return Figure(
            ident, title, "", empty="Nothing to compare: it takes two iterations with a score."
        )
    best = history.best
    effects = _chosen(every, best)
    changes = [effect.change for effect in effects]
    reach = [*changes, *(end for effect in effects if effect.span for end in effect.span)]
    places = list(range(len(effects)))
    named = [_named(effect, best) for effect in effects]
    starred = best is not None and best.id in {effect.row.id for effect in effects}
    metric = plain(history.metric or "metric", 60)
    is_known = any(effect.span for effect in effects)
    return Figure(
        ident,
        title,
        f"Change of {metric} against the best before it, as in the table"
        + ("" if history.direction == "max" else "; lower is better, so what gains goes left")
        + (f"; the star marks the best, {best.name}" if best and starred else "")
        + ("; grey is within noise, thin bars are 95 % intervals" if is_known else "")
        + (
            f". {len(effects)} of {len(every)} steps: what gained, then the largest losses."
            if len(effects) < len(every)
            else "."
        ),
        _alt(history, effects),
        [
            {
                **error_bars("error_x", changes, [effect.span for effect in effects], "@text"),
                "type": "bar",
                "orientation": "h",
                "x": changes,
                "y": places,
                "marker": {"color": [effect.color for effect in effects]},
                "hoverinfo": "text",
                "hovertext": [_told(history, effect) for effect in effects],
            },
            {
                # Of its own: beside a bar, a number is struck through by the interval.
                "type": "scatter",
                "mode": "text",
                "x": [_end(effect) for effect in effects],
                "y": places,
                "text": [f" {show_score(history, change, sign=True)} " for change in changes],
                "textposition": [
                    "middle right" if change >= 0 else "middle left" for change in changes
                ],
                "cliponaxis": False,
                "textfont": {"color": "@text", "size": 12},
                "hoverinfo": "skip",
            },
        ],
        layout(
            _FRAME + _ROW * len(effects),
            showlegend=False,
            bargap=0.35,
            margin={"l": 12, "r": 16, "t": 12, "b": 12},
            xaxis=axis(
                label(f"change of {metric}", 40), range=_range(reach, 0.16), zerolinewidth=2
            ),
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
            "xaxis.range": _range(reach, 0.28),
        },
    )


def _effects(history: History) -> list[_Effect]:
    effects = []
    for effect in lever_effects(history):
        row = history.get(effect.iter)
        change = None if row is None else delta_of(history, row)
        if row is None or change is None:
            continue
        prior = history.prior_best[row.id]
        versus = history.versus(row, prior)
        span = None
        if versus is not None and versus.low is not None and versus.high is not None:
            span = (versus.low, versus.high)
        gain = change if history.direction == Direction.MAX else -change
        is_chance = prior is not None and history.is_chance(row, prior)
        effects.append(_Effect(row, change, gain, effect.added_pass, is_chance, span))
    return effects


def _chosen(every: list[_Effect], best: Iteration | None) -> list[_Effect]:
    """Of a long run, take what gained, then what lost most; in the order they were run."""
    by_weight = sorted(
        every,
        key=lambda effect: (
            best is None or effect.row.id != best.id,
            effect.gain <= 0,
            -abs(effect.gain),
        ),
    )
    taken = {effect.row.id for effect in by_weight[:_SHOWN]}
    return [effect for effect in every if effect.row.id in taken]


def _named(effect: _Effect, best: Iteration | None) -> str:
    """Of a change, the start says most."""
    star = "\u2605 " if best is not None and effect.row.id == best.id else ""
    return label(star + plain(f"{effect.row.id}: {effect.words}", WIDE), WIDE + len(star))


def _told(history: History, effect: _Effect) -> str:
    change = show_score(history, effect.change, sign=True)
    noise = "within noise" if effect.is_chance else ""
    return hover(f"{effect.row.name}: {change}", noise, changes_of(history, effect.row))


def _end(effect: _Effect) -> float:
    """Return where the bar and its interval end, on the side of the change."""
    ends: list[float] = [effect.change, *(effect.span or ())]
    return max(ends) if effect.change >= 0 else min(ends)


def _range(gains: list[float], share: float) -> list[float]:
    """Leave room, a share of what the bars take, for the numbers beside them."""
    low, high = min(0.0, *gains), max(0.0, *gains)
    room = share * ((high - low) or 1.0)
    return [low - room if low < 0 else -room / 8, high + room if high > 0 else room / 8]


def _alt(history: History, effects: list[_Effect]) -> str:
    gained = sum(effect.gain > 0 and not effect.is_chance for effect in effects)
    top = max(effects, key=lambda effect: effect.gain)
    text = f"Bar chart of {len(effects)} changes, {gained} of which gained."
    if gained:
        largest = show_score(history, top.change, sign=True)
        text += f" The largest gain is {largest} in {top.row.name}."
    return text
