"""What is kept of the tensors of a forward for the graphwise analysis and the statistics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from esp_ppq.quantization.analyse.util import MeasureRecorder
from torch import Tensor

from espdl_quantize.analysis._plan import Plan
from espdl_quantize.analysis._samples import sample, sample_each

_OUTPUT_SAMPLES = 4096
"""Elements of each sample of an op's output that the graphwise analysis compares."""

_STATISTICS_SAMPLES = 1024
"""Elements of each tensor and batch that the statistics are of."""


class Records:
    """Elements of the tensors of one forward per batch."""

    def __init__(self, plan: Plan) -> None:
        self._watched = {op.name for op in plan.watched}
        self._computing = {op.name for op in plan.computing}
        self.outputs: dict[str, list[Tensor]] = {name: [] for name in self._computing}
        self.tensors: dict[tuple[str, str, int], list[Tensor]] = {}

    def see(self, op: Any, kind: str, values: list[Any]) -> None:
        """Keep what the analyses look at of an op's inputs or outputs."""
        if op.name in self._watched:
            for place, value in enumerate(values):
                if value is not None and value.dtype.is_floating_point and value.numel() > 0:
                    taken = sample(value, _STATISTICS_SAMPLES).cpu()
                    self.tensors.setdefault((op.name, kind, place), []).append(taken)
        if kind == "output" and op.name in self._computing:
            self.outputs[op.name].append(sample_each(values[0], _OUTPUT_SAMPLES).cpu())


def compare(op: Any, exact: Records, quantized: Records) -> float:
    """Return the mean noise power over signal power of an op's output."""
    recorder = MeasureRecorder("snr")
    pairs = zip(exact.outputs[op.name], quantized.outputs[op.name], strict=True)
    for real, found in pairs:
        recorder.update(y_pred=found, y_real=real)
    return float(recorder.measure)


def pairs(plan: Plan, exact: Records, quantized: Records) -> Iterable[tuple[Any, ...]]:
    """Yield (op, variable, float elements, quantized elements) of all that statistics are of."""
    for op in plan.watched:
        for kind, variables in (("input", op.inputs), ("output", op.outputs)):
            for place, variable in enumerate(variables):
                before = exact.tensors.get((op.name, kind, place))
                after = quantized.tensors.get((op.name, kind, place))
                if before and after:
                    yield op, variable, torch.cat(before), torch.cat(after)
