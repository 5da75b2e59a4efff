"""The error at the outputs of a graph where one op alone is quantized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from esp_ppq.quantization.analyse.util import MeasureRecorder
from torch import Tensor

from espdl_quantize.ppq.fast import (
    NO_BOUNDS,
    OpRunner,
    bounds_of,
    channels_last,
    count_readers,
    inputs_of,
    release,
    store,
)
from espdl_quantize.ppq.measure._plan import Plan


class Alone:
    """Carries what single ops put out through the float graph behind them.

    The float ops run on images with their channels last, which is several times faster on a CPU,
    and on several batches at once, which saves calls; what they put out is compared with a float
    forward of the same kind.

    Args:
        plan: of the graph, which must be dequantized.
        runner: runs its ops.
        batches: the inputs of each batch, by name.

    Attributes:
        elements: of what the computing ops put out.

    Raises:
        RuntimeError: an op fails, or the batches do not fit together.
    """

    def __init__(self, plan: Plan, runner: OpRunner, batches: Sequence[dict[str, Tensor]]) -> None:
        self._plan, self._runner, self.elements = plan, runner, 0
        self._values, self._sizes = dict(batches[0]), [0]
        if len(batches) > 1:
            self._values = {name: torch.cat([one[name] for one in batches]) for name in batches[0]}
            self._sizes = [len(next(iter(batch.values()))) for batch in batches]
        self._values = {name: channels_last(value) for name, value in self._values.items()}
        readers = count_readers(plan.order)
        for op in plan.order:
            outputs = runner.run(op, inputs_of(op, self._values))
            if op.name in plan.behind:
                self.elements += sum(value.numel() for value in outputs)
            store(op, outputs, self._values)
            release(op, self._values, readers, plan.joined)

    def puts_out(self, outputs: Sequence[Sequence[Tensor]]) -> bool:
        """Tell whether these are the float graph's outputs of each batch, up to rounding.

        Where batches that run as one give something else, samples are not independent of each
        other, or are not what the first dimension counts.
        """
        for number, name in enumerate(self._plan.graph.outputs):
            wanted = [batch[number] for batch in outputs]
            found = self._values[name]
            if wanted[0].dim() == 0 or len(found) != sum(self._sizes):
                return False
            for part, real in zip(self._split(found), wanted, strict=True):
                near = 1e-3 * float(real.abs().max())
                if part.shape != real.shape or not torch.allclose(part, real, 1e-3, near):
                    return False
        return True

    def measure(self, op: Any, outputs: list[Any], recorder: MeasureRecorder) -> None:
        """Compare the graph's outputs where ``op`` alone is quantized with the float ones.

        Args:
            op: a computing op.
            outputs: of the op, quantized, for all batches.
            recorder: of the error, batch by batch.
        """
        changed: dict[str, Tensor] = {}
        store(op, [channels_last(value) for value in outputs], changed)
        behind, ends = self._plan.behind[op.name], self._plan.graph.outputs
        readers = count_readers(behind)
        for later in behind:
            inputs = [
                changed.get(variable.name, self._values.get(variable.name, variable.value))
                for variable in later.inputs
            ]
            bounds = NO_BOUNDS
            if self._may_overwrite(later.inputs[0], changed, readers):
                bounds = bounds_of(later, inputs)
            if bounds is not NO_BOUNDS:
                store(later, [bounds.put_on(inputs[0])], changed)
            else:
                store(later, self._runner.run(later, inputs), changed)
            release(later, changed, readers, ends)
        for name in ends:
            exact = self._values[name]
            parts = zip(self._split(changed.get(name, exact)), self._split(exact), strict=True)
            for part, real in parts:
                recorder.update(y_pred=part, y_real=real)

    def _may_overwrite(
        self, variable: Any, changed: dict[str, Tensor], readers: Counter[str]
    ) -> bool:
        """Tell whether nobody else needs a value, nor what it may be a view of."""
        value = changed.get(variable.name)
        if value is None or value.is_cuda or value.dtype != torch.float32:
            return False
        if variable.name in self._plan.graph.outputs or readers[variable.name] > 1:
            return False
        # What a computing op puts out is no view.
        return bool(variable.source_op.is_computing_op)

    def _split(self, whole: Tensor) -> Sequence[Tensor]:
        """Return the part of each batch."""
        return [whole] if len(self._sizes) == 1 else torch.split(whole, self._sizes)
