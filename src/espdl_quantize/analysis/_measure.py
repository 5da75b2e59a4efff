"""Runs esp-ppq's three error analyses on a quantized graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from espdl_quantize.analysis._float_recorder import only_float_tensors
from espdl_quantize.contract import Batch
from espdl_quantize.errors import IterationError
from espdl_quantize.quantize import Progress, describe_failure

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


def measure(
    graph: Any, batches: list[Batch], device: str, steps: int, progress: Progress
) -> Measurements:
    """Run the layerwise, graphwise and statistical analyses of esp-ppq.

    Args:
        graph: a quantized ``BaseGraph``; it is the same before and after.
        batches: calibration batches. esp-ppq reads ``steps + 1`` of them, since it compares its
            counter at the end of the loop; that is kept, so that the numbers are its own.
        device: where the graph runs.
        steps: analyse_steps of the contract.
        progress: told of each analysis.

    Raises:
        IterationError: an analysis fails.
    """
    from esp_ppq.quantization.analyse import (
        graphwise_error_analyse,
        layerwise_error_analyse,
        statistical_analyse,
    )

    common = {"graph": graph, "dataloader": batches, "running_device": device, "steps": steps}
    try:
        with progress.stage("layerwise error"):
            layerwise = layerwise_error_analyse(**common, verbose=False) or {}
        with progress.stage("graphwise error"):
            graphwise = graphwise_error_analyse(**common, verbose=False) or {}
        with progress.stage("statistics"), only_float_tensors():
            statistics = statistical_analyse(**common) or []
    except OSError:
        raise
    except Exception as error:
        raise IterationError(
            f"esp-ppq cannot analyse the quantized graph: {describe_failure(error)}",
            "console.log has the whole trace",
        ) from error
    return Measurements(
        layerwise=dict(sorted(layerwise.items(), key=lambda item: -item[1])),
        graphwise=graphwise,
        statistics=statistics,
    )
