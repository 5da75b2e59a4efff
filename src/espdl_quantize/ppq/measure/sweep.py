"""The three error analyses of esp-ppq in one sweep over the graph.

esp-ppq runs the whole graph twice per computing op and batch, and four times more for the other
two analyses. Here each batch takes one float forward, one quantized forward, and, for each
computing op, the ops behind it alone: what comes before it is the float forward.

Whatever is rounded to integers is computed as esp-ppq does it, to the last bit: a value that lies
between two integers would fall to the other side else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from esp_ppq.quantization.analyse.util import MeasureRecorder
from torch import Tensor

from espdl_quantize.contract import Batch
from espdl_quantize.core import Progress
from espdl_quantize.ppq.fast import (
    NO_BOUNDS,
    Layout,
    OpRunner,
    bounds_of,
    channels_last,
    count_readers,
    feed,
    give_back_freed_memory,
    inputs_of,
    release,
    store,
)
from espdl_quantize.ppq.measure._measurements import Measurements
from espdl_quantize.ppq.measure.plan import Plan
from espdl_quantize.ppq.measure.records import Comparison, Records, statistics_row

_AT_ONCE = 1 << 21
"""Elements of all computing ops' outputs up to which several batches are stacked."""


def sweep(
    graph: Any, batches: list[Batch], device: str, steps: int, progress: Progress
) -> Measurements:
    """Measure as esp-ppq's three analyses do; see :func:`espdl_quantize.analysis.measure`."""
    plan = Plan.of(graph)
    if not plan.computing:
        return Measurements({}, {}, [])
    used = [feed(graph, batch) for batch in batches[: steps + 1]]
    exact = Records(plan)
    quantized = Comparison(plan, exact)
    with torch.no_grad():
        with progress.stage("layerwise error"):
            for op in plan.quantable:
                op.dequantize()
            try:
                layerwise = _layerwise(plan, OpRunner(device), used, exact, progress)
            finally:
                for op in plan.quantable:
                    op.restore_quantize_state()
        give_back_freed_memory()
        with progress.stage("graphwise error"):
            layout = Layout.of(graph) if device == "cpu" else None
            runner = OpRunner(device, layout=layout)
            for batch in used:
                _forward(plan, runner, batch, quantized)
            graphwise = quantized.graphwise()
        with progress.stage("statistics"):
            statistics = [
                statistics_row(op, variable, float_values, found)
                for op, variable, float_values, found in quantized.pairs(plan)
            ]
    del exact, quantized
    give_back_freed_memory()
    return Measurements(layerwise, graphwise, statistics)


def _layerwise(
    plan: Plan,
    runner: OpRunner,
    batches: list[dict[str, Tensor]],
    records: Records,
    progress: Progress,
) -> dict[str, float]:
    """Return the error of each computing op alone; ``records`` see the float forwards.

    The first batch goes alone, and tells how many of the others fit into memory at once.
    """
    recorders = {op.name: MeasureRecorder("snr") for op in plan.computing}
    done, at_once = 0, 1
    while done < len(batches):
        progress.update(done, len(batches), f"batch {done + 1} of {len(batches)}")
        stack = batches[done : done + at_once]
        if at_once > 1:
            fit_together = _at_once(plan, runner, stack, records, recorders)
            at_once = at_once if fit_together else 1
        else:
            elements = _one_by_one(plan, runner, stack[0], records, recorders)
            at_once = max(1, _AT_ONCE // max(1, elements)) if done == 0 else 1
        done += len(stack)
    return {name: recorder.measure for name, recorder in recorders.items()}


def _one_by_one(
    plan: Plan,
    runner: OpRunner,
    batch: dict[str, Tensor],
    records: Records,
    recorders: dict[str, MeasureRecorder],
) -> int:
    """Measure one batch, each op as soon as its inputs are there; return the elements of what the
    computing ops put out."""
    alone = Alone(plan, runner, [batch])

    def measure(op: Any, values: dict[str, Tensor]) -> None:
        alone.measure(op, _quantized(op, runner, values), recorders[op.name])

    _forward(plan, runner, batch, records, measure)
    return alone.elements


def _at_once(
    plan: Plan,
    runner: OpRunner,
    batches: list[dict[str, Tensor]],
    records: Records,
    recorders: dict[str, MeasureRecorder],
) -> bool:
    """Measure several batches, stacked behind each op; return whether they could be stacked."""
    outputs: dict[str, list[list[Any]]] = {op.name: [] for op in plan.computing}

    def keep(op: Any, values: dict[str, Tensor]) -> None:
        outputs[op.name].append(_quantized(op, runner, values))

    ends = [_forward(plan, runner, batch, records, keep) for batch in batches]
    try:
        stacked = Alone(plan, runner, batches)
        together = stacked.puts_out(ends) and all(
            stacked.holds(op, outputs[op.name]) for op in plan.computing
        )
    except RuntimeError:
        together = False
    if together:
        for op in plan.computing:
            stacked.measure(op, stacked.joined(outputs[op.name]), recorders[op.name])
        return True
    for number, batch in enumerate(batches):
        alone = Alone(plan, runner, [batch])
        for op in plan.computing:
            alone.measure(op, outputs[op.name][number], recorders[op.name])
    return False


def _quantized(op: Any, runner: OpRunner, values: dict[str, Tensor]) -> list[Any]:
    """Return what an op of a float graph puts out where it is quantized."""
    op.restore_quantize_state()
    try:
        return runner.run(op, inputs_of(op, values))
    finally:
        op.dequantize()


def _forward(
    plan: Plan,
    runner: OpRunner,
    batch: dict[str, Tensor],
    records: Records,
    on_computing: Callable[[Any, dict[str, Tensor]], None] | None = None,
) -> list[Tensor]:
    """Run the whole graph as esp-ppq does, and return its outputs.

    Args:
        plan: of the graph.
        runner: runs its ops.
        batch: the inputs, by name.
        records: see every op's inputs and outputs.
        on_computing: told of each computing op and of the values at hand, its inputs among them.
    """
    values, readers = dict(batch), count_readers(plan.order)
    for op in plan.order:
        if on_computing is not None and op.name in plan.behind:
            on_computing(op, values)

        def see_inputs(inputs: list[Any], op: Any = op) -> None:
            records.see(op, "input", inputs)

        outputs = runner.run(op, inputs_of(op, values), see_inputs)
        records.see(op, "output", outputs)
        store(op, outputs, values)
        release(op, values, readers, plan.graph.outputs)
    return [values[name] for name in plan.graph.outputs]


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
        shapes: of what each computing op put out, by its name.

    Raises:
        RuntimeError: an op fails, or the batches do not fit together.
    """

    def __init__(self, plan: Plan, runner: OpRunner, batches: Sequence[dict[str, Tensor]]) -> None:
        self._plan, self._runner, self.elements = plan, runner, 0
        self.shapes: dict[str, list[Any]] = {}
        self._values, self._sizes = dict(batches[0]), [0]
        if len(batches) > 1:
            self._values = {
                name: torch.cat([batch[name] for batch in batches]) for name in batches[0]
            }
            self._sizes = [len(next(iter(batch.values()))) for batch in batches]
        self._values = {name: channels_last(value) for name, value in self._values.items()}
        readers = count_readers(plan.order)
        for op in plan.order:
            outputs = runner.run(op, inputs_of(op, self._values))
            if op.name in plan.behind:
                self.elements += sum(value.numel() for value in outputs)
                self.shapes[op.name] = [value.shape for value in outputs]
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

    @staticmethod
    def joined(outputs: Sequence[Sequence[Any]]) -> list[Tensor]:
        """Return what one op put out for each batch as if the batches had been one."""
        return [torch.cat(list(parts)) for parts in zip(*outputs, strict=True)]

    def holds(self, op: Any, outputs: Sequence[Sequence[Any]]) -> bool:
        """Tell whether what an op put out for each batch is, joined, of the shape that it has here.

        Behind a state [layers, batch, hidden], or inside a recurrent op, the samples do not lie
        along the first axis.

        Raises:
            RuntimeError: it cannot be joined.
        """
        found = [value.shape for value in self.joined(outputs)]
        return found == self.shapes[op.name]

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
