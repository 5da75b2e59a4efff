"""What the error analyses of a quantized graph yield."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
"""One row of esp-ppq's statistical analysis, under esp-ppq's own keys."""


@dataclass(frozen=True)
class Measurements:
    """What the analyses measured. Every SNR is noise power over signal power: lower is better.

    Attributes:
        layerwise: by op, the error at the graph's outputs where only this op is quantized,
            in descending order.
        graphwise: by op, the error at this op's output where everything up to it is quantized,
            in the graph's order.
        statistics: one row per op and variable.
    """

    layerwise: dict[str, float]
    graphwise: dict[str, float]
    statistics: list[Row]
