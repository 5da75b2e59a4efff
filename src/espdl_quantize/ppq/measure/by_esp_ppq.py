"""esp-ppq's own three error analyses."""

from __future__ import annotations

from typing import Any

from espdl_quantize.contract import Batch
from espdl_quantize.core import Progress
from espdl_quantize.ppq.measure._measurements import Measurements
from espdl_quantize.ppq.patches import When, installed


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
    with progress.stage("statistics"), installed(When.ANALYSIS):
        statistics = statistical_analyse(**common) or []
    return Measurements(layerwise, graphwise, statistics)


def float_recorder(recorder: Any) -> type:
    """Return a recorder that skips integer, boolean and empty tensors.

    esp-ppq takes the mean of every input of every op, and torch has no mean of integers. Since
    opset 18 the axes of a ReduceMean are such an input, so that many classifiers cannot be analysed
    as they are.
    """

    class FloatRecorder(recorder):  # type: ignore[misc]
        def pre_forward_hook(self, inputs: list[Any], **kwargs: Any) -> list[Any]:
            super().pre_forward_hook([_float_or_none(value) for value in inputs], **kwargs)
            return inputs

        def post_forward_hook(self, outputs: list[Any], **kwargs: Any) -> list[Any]:
            super().post_forward_hook([_float_or_none(value) for value in outputs], **kwargs)
            return outputs

    return FloatRecorder


def _float_or_none(value: Any) -> Any:
    usable = value is not None and value.dtype.is_floating_point and value.numel() > 0
    return value if usable else None
