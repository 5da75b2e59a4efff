"""Measures a quantized graph with either engine."""

from __future__ import annotations

from typing import Any

from espdl_quantize.contract import Batch
from espdl_quantize.core import IterationError, Progress
from espdl_quantize.ppq import ANALYSIS, Engine, failure_of, fallback_at_work, keep_graph
from espdl_quantize.ppq.measure._measurements import Measurements
from espdl_quantize.ppq.measure._reference import measure_by_esp_ppq


def measure(
    graph: Any,
    batches: list[Batch],
    device: str,
    steps: int,
    progress: Progress,
    engine: Engine = Engine.FAST,
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
    given = graph, batches, device, steps, progress
    try:
        if engine == "reference":
            found = measure_by_esp_ppq(*given)
        else:
            found = fallback_at_work().guarded(
                ANALYSIS,
                _sweep,
                measure_by_esp_ppq,
                snapshot=lambda graph, *_: keep_graph(graph),
            )(*given)
    except (OSError, IterationError):
        raise
    except Exception as error:
        raise failure_of(
            error,
            "esp-ppq cannot analyse the quantized graph",
            "analyse the quantized graph",
            "console.log has the whole trace",
        ) from error
    worst_first = sorted(found.layerwise.items(), key=lambda item: -item[1])
    return Measurements(dict(worst_first), found.graphwise, found.statistics)


def _sweep(
    graph: Any, batches: list[Batch], device: str, steps: int, progress: Progress
) -> Measurements:
    # Here, so that an engine that cannot be imported leaves the work to esp-ppq.
    from espdl_quantize.ppq.measure._sweep import sweep

    return sweep(graph, batches, device, steps, progress)
