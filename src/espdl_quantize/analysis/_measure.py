"""Measures a quantized graph with either engine."""

from __future__ import annotations

from typing import Any

from espdl_quantize.analysis._measurements import Measurements
from espdl_quantize.analysis._reference import measure_by_esp_ppq
from espdl_quantize.contract import Batch
from espdl_quantize.errors import IterationError
from espdl_quantize.quantize import Engine, Progress, describe_failure


def measure(
    graph: Any,
    batches: list[Batch],
    device: str,
    steps: int,
    progress: Progress,
    engine: Engine = "fast",
) -> Measurements:
    """Run the layerwise, graphwise and statistical analyses of esp-ppq.

    Args:
        graph: a quantized ``BaseGraph``; it is the same before and after.
        batches: calibration batches. esp-ppq reads ``steps + 1`` of them, since it compares its
            counter at the end of the loop; both engines do.
        device: where the graph runs.
        steps: analyse_steps of the contract.
        progress: told of each analysis.
        engine: "reference" calls esp-ppq's own functions, "fast" does their work in one sweep.

    Raises:
        IterationError: an analysis fails.
    """
    try:
        if engine == "reference":
            found = measure_by_esp_ppq(graph, batches, device, steps, progress)
        else:
            from espdl_quantize.analysis._sweep import sweep

            found = sweep(graph, batches, device, steps, progress)
    except OSError:
        raise
    except Exception as error:
        raise IterationError(
            f"esp-ppq cannot analyse the quantized graph: {describe_failure(error)}",
            "console.log has the whole trace",
        ) from error
    worst_first = sorted(found.layerwise.items(), key=lambda item: -item[1])
    return Measurements(dict(worst_first), found.graphwise, found.statistics)
