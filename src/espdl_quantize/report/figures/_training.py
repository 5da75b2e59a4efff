"""What training did to the loss of each block."""

from __future__ import annotations

from collections.abc import Sequence

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


def training_figure(losses: Sequence[BlockLoss], name: str) -> Figure | None:
    """Draw the loss of each block before and after training; None where nothing trained.

    Args:
        losses: as the log of an iteration has them; of several trainings the last counts.
        name: of the iteration.
    """
    known = [block for block in losses if block.before is not None and block.after is not None]
    last = max((block.run for block in known), default=0)
    blocks = [block for block in known if block.run == last][:_SHOWN]
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
