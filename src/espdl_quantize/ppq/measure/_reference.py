"""esp-ppq's own three error analyses."""

from __future__ import annotations

from typing import Any

from espdl_quantize.contract import Batch
from espdl_quantize.core import Progress
from espdl_quantize.ppq.measure._float_recorder import only_float_tensors
from espdl_quantize.ppq.measure._measurements import Measurements


def measure_by_esp_ppq(
    graph: Any, batches: list[Batch], device: str, steps: int, progress: Progress
) -> Measurements:
    """Run ``layerwise_error_analyse``, ``graphwise_error_analyse`` and ``statistical_analyse``."""
    from esp_ppq.quantization.analyse import (
        graphwise_error_analyse,
        layerwise_error_analyse,
        statistical_analyse,
    )

    loader = [batch.as_esp_ppq() for batch in batches]
    common = {"graph": graph, "dataloader": loader, "running_device": device, "steps": steps}
    with progress.stage("layerwise error"):
        layerwise = layerwise_error_analyse(**common, verbose=False) or {}
    with progress.stage("graphwise error"):
        graphwise = graphwise_error_analyse(**common, verbose=False) or {}
    with progress.stage("statistics"), only_float_tensors():
        statistics = statistical_analyse(**common) or []
    return Measurements(layerwise, graphwise, statistics)
