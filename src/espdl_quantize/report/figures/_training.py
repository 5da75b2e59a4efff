"""What training did to the loss of each block, before and after, and over its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from espdl_quantize.record import BlockLoss
from espdl_quantize.report._escape import plain
from espdl_quantize.report.figures._base import (
    Figure,
    axis,
    hover,
    label,
    labels_above,
    layout,
)

_SHOWN = 40
_ROW = 34
_FRAME = 110
_WIDE, _HIGH, _EDGE = 160, 32, 3


@dataclass(frozen=True)
class Spark:
    """A small curve in a line of text.

    Attributes:
        path: of an SVG of the size :attr:`width` by :attr:`height`.
        label: what it shows, for those who do not see it.
    """

    path: str
    label: str
    width: int = _WIDE
    height: int = _HIGH


def spark(losses: Sequence[tuple[int, float | None]]) -> Spark | None:
    """Draw losses over steps, from zero up; None where there is nothing to draw."""
    known = [(step, loss) for step, loss in losses if loss is not None and loss >= 0]
    if len(known) < 2:
        return None
    last, most = max(step for step, _ in losses) or 1, max(loss for _, loss in known) or 1.0

    def point(step: int, loss: float) -> str:
        x = _EDGE + step / last * (_WIDE - 2 * _EDGE)
        # Not loss / most * height: either may be close to the largest number there is.
        y = _HIGH - _EDGE - loss / most * (_HIGH - 2 * _EDGE)
        return f"{x:.1f} {y:.1f}"

    drawn = groupby(losses, lambda each: each[1] is not None and each[1] >= 0)
    runs = [[point(step, loss or 0.0) for step, loss in run] for is_known, run in drawn if is_known]
    path = " ".join(f"M{run[0]} L{' '.join(run[1:] or run)}" for run in runs)
    (first, before), (end, after) = known[0], known[-1]
    return Spark(path, f"loss {before:.4g} at step {first}, {after:.4g} at step {end}")


def last_training(losses: Sequence[BlockLoss]) -> list[BlockLoss]:
    """Return the blocks that were trained, of several trainings those of the last."""
    known = [block for block in losses if block.before is not None and block.after is not None]
    last = max((block.run for block in known), default=0)
    return [block for block in known if block.run == last]


def training_figure(losses: Sequence[BlockLoss], name: str) -> Figure | None:
    """Draw the loss of each block before and after training; None where nothing trained.

    Args:
        losses: as :func:`last_training` returns them.
        name: of the iteration.
    """
    blocks = losses[:_SHOWN]
    if not blocks:
        return None
    named = [label(f"{block.number}: {block.last}") for block in blocks]
    places = list(range(len(blocks)))
    gained = sum((block.after or 0.0) < (block.before or 0.0) for block in blocks)
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": side,
            "x": [value if value and value > 0 else None for value in values],
            "y": places,
            "marker": {"color": color},
            "hoverinfo": "text",
            "hovertext": [
                hover(f"block {block.number}: {value:.4g}", f"{block.first} to {block.last}")
                for block, value in zip(blocks, values, strict=True)
            ],
        }
        for side, color, values in (
            ("Before training", "@base", [block.before or 0.0 for block in blocks]),
            ("After training", "@best", [block.after or 0.0 for block in blocks]),
        )
    ]
    return Figure(
        "chart-training",
        "Loss of each trained block",
        f"Mean squared difference to the float block in {plain(name)}, before and after training, "
        "named by the last op of the block; shorter is better. A block whose loss would have grown "
        "is kept as it was.",
        f"Bar chart of {len(blocks)} trained blocks, {gained} of which have less loss than before.",
        data,
        layout(
            _FRAME + _ROW * len(blocks),
            barmode="group",
            bargap=0.28,
            xaxis=axis("loss", rangemode="tozero"),
            yaxis=axis(
                tickvals=places,
                ticktext=named,
                range=[len(blocks) - 0.5, -0.5],
                showgrid=False,
                zeroline=False,
            ),
        ),
        labels_above(named, 26, _FRAME),
    )
