"""The error of each layer, before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass

from espdl_quantize.record import Evidence
from espdl_quantize.report.figures._base import Figure, axis, hover, label, labels_above, layout

_SHOWN = 15
_ROW = 34
_FRAME = 110


@dataclass(frozen=True)
class LayerRow:
    """One layer: noise:signal power ratio with only this layer quantized; None where unknown."""

    op: str
    op_type: str
    baseline: float | None
    best: float | None
    is_int16: bool = False

    @property
    def worst(self) -> float:
        """The larger of both errors."""
        return max(self.baseline or 0.0, self.best or 0.0)


TRAINED_TOGETHER = (
    "Training fits the quantized layers to each other: one alone may look worse although the whole "
    "is better."
)
"""Why the error of a layer alone can grow while the score rises."""


def layer_rows(
    baseline: Evidence, best: Evidence, int16: tuple[str, ...] = (), count: int = _SHOWN
) -> list[LayerRow]:
    """Return the layers with the largest error in either, worst first."""
    before = {row.op: row.snr for row in baseline.layerwise}
    after = {row.op: row.snr for row in best.layerwise}
    types = {op.name: op.op_type for op in (*baseline.ops, *best.ops)}
    rows = [
        LayerRow(op, types.get(op, ""), before.get(op), after.get(op), op in int16)
        for op in {**after, **before}
    ]
    known = [row for row in rows if row.worst > 0]
    return sorted(known, key=lambda row: (-row.worst, row.op))[:count]


def layer_figure(
    rows: list[LayerRow], first_name: str, best_name: str, needs_work: float
) -> Figure:
    """Draw the worst layers of two iterations against each other.

    Args:
        rows: from :func:`layer_rows`.
        first_name: the iteration to compare with.
        best_name: the best iteration; the same name draws one bar per layer.
        needs_work: error above which a layer is worth attention.
    """
    title, ident = "Error per layer", "chart-layers"
    if not rows:
        return Figure(ident, title, "", empty="No layer-wise error was recorded.")
    sides = [("Best", best_name, "@best", [row.best for row in rows])]
    if first_name != best_name:
        sides.insert(0, ("Baseline", first_name, "@base", [row.baseline for row in rows]))
    places = list(range(len(rows)))
    named = [f"{row.op} (int16)" if row.is_int16 else row.op for row in rows]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"{side} ({name})",
            "x": [value if value and value > 0 else None for value in values],
            "y": places,
            "marker": {"color": color},
            "hoverinfo": "text",
            "hovertext": [
                hover(
                    f"{side} ({name})", label_of_layer, f"noise:signal {value:.4g}" if value else ""
                )
                for label_of_layer, value in zip(named, values, strict=True)
            ],
        }
        for side, name, color, values in sides
    ]
    known = [value for _, _, _, values in sides for value in values if value and value > 0]
    return Figure(
        ident,
        title,
        f"Noise:signal power ratio with only this layer quantized, on a log scale; the "
        f"{len(rows)} worst layers. Shorter is better; above {needs_work:g} (dotted) a layer needs "
        f"work.{_why_worse(rows)}",
        f"Bar chart of the {len(rows)} worst layers. The numbers are in the table below.",
        data,
        layout(
            _FRAME + _ROW * len(rows),
            barmode="group",
            bargap=0.28,
            xaxis=axis(
                "noise:signal power ratio (log)",
                type="log",
                # A bar on a log scale has no zero to start from: it starts below the smallest.
                range=_log_range([*known, needs_work]),
                exponentformat="power",
                dtick=1,
            ),
            yaxis=axis(
                tickvals=places,
                ticktext=[label(name) for name in named],
                range=[len(rows) - 0.5, -0.5],
                showgrid=False,
                zeroline=False,
            ),
            shapes=[
                {
                    "type": "line",
                    "xref": "x",
                    "yref": "paper",
                    "x0": needs_work,
                    "x1": needs_work,
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": "@target", "dash": "dot", "width": 2},
                }
            ],
        ),
        labels_above([label(name) for name in named], 13 * len(sides), _FRAME),
    )


def _why_worse(rows: list[LayerRow]) -> str:
    is_worse = any(row.baseline and row.best and row.best > row.baseline for row in rows)
    return f" {TRAINED_TOGETHER}" if is_worse else ""


def _log_range(values: list[float]) -> list[float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    return [low - 0.3, high + 0.15]
