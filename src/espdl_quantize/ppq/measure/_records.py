"""What is kept of the tensors of a forward for the graphwise analysis and the statistics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from esp_ppq.quantization.analyse.util import MeasureRecorder
from torch import Tensor

from espdl_quantize.ppq.measure._plan import Plan
from espdl_quantize.ppq.measure._samples import sample, sample_each

_OUTPUT_SAMPLES = 4096
"""Elements of each sample of an op's output that the graphwise analysis compares."""

_STATISTICS_SAMPLES = 1024
"""Elements of each tensor and batch that the statistics are of."""


class Records:
    """Elements of the tensors of one float forward per batch.

    Attributes:
        outputs: by computing op, one output per batch, or what is looked at of it where that is
            less.
        tensors: by op, "input" or "output", and place, the elements that statistics are of.
    """

    def __init__(self, plan: Plan) -> None:
        self._watched = {op.name for op in plan.watched}
        self.outputs: dict[str, list[Tensor]] = {op.name: [] for op in plan.computing}
        self.tensors: dict[tuple[str, str, int], list[Tensor]] = {}

    def see(self, op: Any, kind: str, values: list[Any]) -> None:
        """Keep what the analyses look at of an op's inputs or outputs."""
        if op.name in self._watched:
            for place, value in enumerate(values):
                if value is not None and value.dtype.is_floating_point and value.numel() > 0:
                    taken = sample(value, _STATISTICS_SAMPLES).cpu()
                    self.tensors.setdefault((op.name, kind, place), []).append(taken)
        if kind == "output" and op.name in self.outputs:
            self._see_output(op, values[0])

    def _see_output(self, op: Any, value: Tensor) -> None:
        is_small = value.dim() > 0 and value[0].numel() <= _OUTPUT_SAMPLES
        kept = value if is_small else sample_each(value, _OUTPUT_SAMPLES)
        self.outputs[op.name].append(kept.cpu())


class Comparison(Records):
    """The same of the quantized forwards, whose outputs are compared as they come.

    Args:
        plan: of the graph.
        exact: of the float forwards; what has been compared is dropped from it.
    """

    def __init__(self, plan: Plan, exact: Records) -> None:
        super().__init__(plan)
        self._exact = exact
        self._recorders = {op.name: MeasureRecorder("snr") for op in plan.computing}

    def _see_output(self, op: Any, value: Tensor) -> None:
        real = self._exact.outputs[op.name].pop(0)
        if real.shape == value.shape:
            real = sample_each(real, _OUTPUT_SAMPLES)
        found = sample_each(value, _OUTPUT_SAMPLES).cpu()
        self._recorders[op.name].update(y_pred=found, y_real=real)

    def graphwise(self) -> dict[str, float]:
        """Return the mean noise power over signal power of every computing op's output."""
        return {name: float(recorder.measure) for name, recorder in self._recorders.items()}

    def pairs(self, plan: Plan) -> Iterable[tuple[Any, ...]]:
        """Yield (op, variable, float elements, quantized ones) of all that statistics are of."""
        for op in plan.watched:
            for kind, variables in (("input", op.inputs), ("output", op.outputs)):
                for place, variable in enumerate(variables):
                    before = self._exact.tensors.get((op.name, kind, place))
                    after = self.tensors.get((op.name, kind, place))
                    if before and after:
                        yield op, variable, torch.cat(before), torch.cat(after)
