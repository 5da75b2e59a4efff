"""What the charts have in common."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from espdl_quantize.report._escape import plain

Json = dict[str, Any]

WIDE = 44
"""Characters of a label."""

_HOVER = 64


@dataclass(frozen=True)
class Figure:
    """One chart with the words around it.

    A colour is written as ``@name``; the page puts in the colour of that name in the theme that
    the reader uses.

    Attributes:
        id: the element's id.
        title: heading.
        caption: how to read it.
        alt: what it shows, for those who do not see it.
        data: plotly's traces.
        layout: plotly's layout.
        narrow: what differs in the layout on a phone, by dotted path.
        empty: why there is nothing to draw; then there are no traces.
    """

    shape: ClassVar[str] = "chart"
    id: str
    title: str
    caption: str
    alt: str = ""
    data: list[Json] = field(default_factory=list)
    layout: Json = field(default_factory=dict)
    narrow: Json = field(default_factory=dict)
    empty: str = ""

    @property
    def height(self) -> int:
        """Pixels, so that the page does not jump when the chart appears."""
        return int(self.layout.get("height", 0))

    def to_json(self) -> Json:
        """Return what the page's script draws."""
        return {"data": self.data, "layout": self.layout, "narrow": self.narrow}


def label(text: object, width: int = WIDE) -> str:
    """Return ``text`` so that plotly shows it as it is.

    Plotly reads a subset of HTML in every label. Of long names both ends are kept: the start tells
    the block of the network, the end the op.
    """
    line = plain(text, 2000)
    if len(line) > width:
        head = (width - 1) // 2
        line = f"{line[:head]}\u2026{line[len(line) - (width - 1 - head) :]}"
    return html.escape(line, quote=False)


def hover(title: str, *lines: str) -> str:
    """Return a hover box: a bold title and wrapped lines of any origin."""
    wrapped = [part for line in lines for part in textwrap.wrap(plain(line, 400), _HOVER)]
    return "<br>".join(
        [f"<b>{html.escape(title, quote=False)}</b>"]
        + [html.escape(part, quote=False) for part in wrapped]
    )


def axis(title: str = "", **fields: Any) -> Json:
    """Return an axis with the look that all charts share."""
    shared: Json = {
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zerolinecolor": "@line",
        "tickcolor": "@line",
        "automargin": True,
    }
    if title:
        shared["title"] = {
            "text": title,
            "standoff": 12,
            "font": {"size": 13, "color": "@muted"},
        }
    return {**shared, **fields}


def labels_above(texts: list[str], bars: int, shared: int) -> Json:
    """Return what a phone changes of a bar chart: labels above the bars, so that both have room.

    Args:
        texts: a label per row, ready for plotly.
        bars: pixels of the bars of a row.
        shared: pixels of the chart beside its rows.
    """
    row = bars + 26
    gap = 1 - bars / row
    return {
        "height": shared + row * len(texts),
        "bargap": gap,
        "yaxis.showticklabels": False,
        "yaxis.ticks": "",
        "yaxis.range": [len(texts) - 0.5, -0.6],
        "annotations": [
            {
                "xref": "paper",
                "x": 0,
                "xanchor": "left",
                "y": place - (1 - gap) / 2 - 10 / row,
                "yanchor": "middle",
                "showarrow": False,
                "text": text,
                "font": {"size": 12},
                "bgcolor": "@card",
            }
            for place, text in enumerate(texts)
        ],
    }


def error_bars(
    name: str,
    values: Sequence[float | None],
    spans: Iterable[tuple[float, float] | None],
    color: str,
) -> Json:
    """Return the key of a trace for intervals that need not be even; empty where none is known.

    Args:
        name: "error_x" or "error_y".
        values: the middles.
        spans: the two ends of each; None where they are not known.
        color: of the bars.
    """
    known = list(spans)
    if not any(known):
        return {}
    above, below = [], []
    for value, span in zip(values, known, strict=True):
        middle = value or 0.0
        above.append(0.0 if span is None else max(span[1] - middle, 0.0))
        below.append(0.0 if span is None else max(middle - span[0], 0.0))
    return {
        name: {
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "color": color,
            "thickness": 1,
            "width": 3,
        }
    }


def layout(height: int, **fields: Any) -> Json:
    """Return a layout with the look that all charts share."""
    return {
        "height": height,
        "margin": {"l": 12, "r": 16, "t": 40, "b": 12},
        "paper_bgcolor": "@clear",
        "plot_bgcolor": "@clear",
        "font": {"color": "@text", "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {
            "align": "left",
            "bgcolor": "@card",
            "bordercolor": "@line",
            "font": {"color": "@text"},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
        **fields,
    }
