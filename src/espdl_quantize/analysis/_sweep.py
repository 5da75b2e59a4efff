"""The three error analyses of esp-ppq in one sweep over the graph.

esp-ppq runs the whole graph twice per computing op and batch, and four times more for the other
two analyses. Here each batch takes one float forward, one quantized forward, and, for each
computing op, the ops behind it alone: what comes before it is the float forward.

Whatever is rounded to integers is computed as esp-ppq does it, to the last bit: a value that lies
between two integers would fall to the other side else. The float ops behind a quantized one run on
images with their channels last, which is several times faster on a CPU; they are compared with a
float forward of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from esp_ppq.core import PASSIVE_OPERATIONS
from esp_ppq.IR import QuantableOperation
from esp_ppq.quantization.analyse.util import MeasureRecorder
from torch import Tensor

from espdl_quantize.analysis._measurements import Measurements
from espdl_quantize.analysis._samples import sample, sample_each
from espdl_quantize.analysis._statistics import statistics_row
from espdl_quantize.contract import Batch
from espdl_quantize.quantize import Progress
from espdl_quantize.quantize.fast import OpRunner, channels_last, feed, inputs_of, store

_OUTPUT_SAMPLES = 4096
"""Elements of each sample of an op's output that the graphwise analysis compares."""

_STATISTICS_SAMPLES = 1024
"""Elements of each tensor and batch that the statistics are of."""


def sweep(
    graph: Any, batches: list[Batch], device: str, steps: int, progress: Progress
) -> Measurements:
    """Measure as esp-ppq's three analyses do; see :func:`espdl_quantize.analysis.measure`."""
    plan = _Plan.of(graph)
    if not plan.computing:
        return Measurements({}, {}, [])
    runner, used = OpRunner(device), batches[: steps + 1]
    layerwise = {op.name: MeasureRecorder("snr") for op in plan.computing}
    records = _Records(plan), _Records(plan)
    with torch.no_grad():
        with progress.stage("layerwise error"):
            for op in plan.quantable:
                op.dequantize()
            try:
                for number, batch in enumerate(used):
                    progress.update(number, len(used), f"batch {number + 1} of {len(used)}")
                    alone = _Alone(plan, runner, batch, layerwise)
                    _forward(plan, runner, batch, records[0], alone.measure)
            finally:
                for op in plan.quantable:
                    op.restore_quantize_state()
        with progress.stage("graphwise error"):
            for batch in used:
                _forward(plan, runner, batch, records[1])
            graphwise = {op.name: _compare(op, *records) for op in plan.computing}
        with progress.stage("statistics"):
            statistics = [
                statistics_row(op, variable, float_values, quantized)
                for op, variable, float_values, quantized in _pairs(plan, *records)
            ]
    measured = {name: recorder.measure for name, recorder in layerwise.items()}
    return Measurements(measured, graphwise, statistics)


@dataclass(frozen=True)
class _Plan:
    """The ops of a graph, in the order that they run in.

    Attributes:
        graph: the quantized graph.
        order: all ops.
        quantable: those with a configuration, in the graph's order.
        computing: those that the layerwise analysis covers.
        watched: those that statistics are taken of.
        behind: by computing op, the ops that depend on it and that an output depends on.
        joined: variables that come into what lies behind some op from elsewhere, and the outputs.
    """

    graph: Any
    order: tuple[Any, ...]
    quantable: tuple[Any, ...]
    computing: tuple[Any, ...]
    watched: tuple[Any, ...]
    behind: dict[str, tuple[Any, ...]]
    joined: frozenset[str]

    @classmethod
    def of(cls, graph: Any) -> _Plan:
        order = tuple(graph.topological_sort())
        quantable = tuple(
            op for op in graph.operations.values() if isinstance(op, QuantableOperation)
        )
        computing = tuple(op for op in quantable if op.is_computing_op)
        watched = tuple(op for op in quantable if op.type not in PASSIVE_OPERATIONS)
        useful = _leading_to(order, graph.outputs)
        behind = {op.name: _behind(op, order, useful) for op in computing}
        joined = set(graph.outputs)
        for op in computing:
            changed = {variable.name for variable in op.outputs}
            for later in behind[op.name]:
                joined |= {variable.name for variable in later.inputs} - changed
                changed |= {variable.name for variable in later.outputs}
        return cls(graph, order, quantable, computing, watched, behind, frozenset(joined))


def _leading_to(order: tuple[Any, ...], outputs: Iterable[str]) -> set[str]:
    needed, useful = set(outputs), set()
    for op in reversed(order):
        if any(variable.name in needed for variable in op.outputs):
            useful.add(op.name)
            needed |= {variable.name for variable in op.inputs}
    return useful


def _behind(start: Any, order: tuple[Any, ...], useful: set[str]) -> tuple[Any, ...]:
    changed, found = {variable.name for variable in start.outputs}, []
    for op in order:
        if op.name in useful and any(variable.name in changed for variable in op.inputs):
            found.append(op)
            changed |= {variable.name for variable in op.outputs}
    return tuple(found)


class _Records:
    """Elements of the tensors of one forward per batch."""

    def __init__(self, plan: _Plan) -> None:
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


def _forward(
    plan: _Plan,
    runner: OpRunner,
    batch: Batch,
    records: _Records,
    on_computing: Callable[[Any, dict[str, Tensor]], None] | None = None,
) -> None:
    """Run the whole graph as esp-ppq does.

    Args:
        plan: of the graph.
        runner: runs its ops.
        batch: the inputs.
        records: see every op's inputs and outputs.
        on_computing: told of each computing op and of the values at hand, its inputs among them.
    """
    values, readers = feed(plan.graph, batch), _count_readers(plan.order)
    for op in plan.order:
        if on_computing is not None and op.name in plan.behind:
            on_computing(op, values)

        def see_inputs(inputs: list[Any], op: Any = op) -> None:
            records.see(op, "input", inputs)

        outputs = runner.run(op, inputs_of(op, values), see_inputs)
        records.see(op, "output", outputs)
        store(op, outputs, values)
        _release(op, values, readers, frozenset())


class _Alone:
    """Quantizes single ops of a float graph, on one batch.

    Args:
        plan: of the graph, which must be dequantized.
        runner: runs its ops.
        batch: the inputs.
        recorders: by op, of the error at the outputs.
    """

    def __init__(
        self, plan: _Plan, runner: OpRunner, batch: Batch, recorders: dict[str, MeasureRecorder]
    ) -> None:
        self._plan, self._runner, self._recorders = plan, runner, recorders
        self._values = {n: channels_last(value) for n, value in feed(plan.graph, batch).items()}
        readers = _count_readers(plan.order)
        for op in plan.order:
            store(op, runner.run(op, inputs_of(op, self._values)), self._values)
            _release(op, self._values, readers, plan.joined)

    def measure(self, op: Any, values: dict[str, Tensor]) -> None:
        """Compare the graph's outputs where ``op`` alone is quantized with the float ones.

        Args:
            op: a computing op.
            values: its inputs, among others, computed as esp-ppq does.
        """
        op.restore_quantize_state()
        try:
            outputs = self._runner.run(op, inputs_of(op, values))
        finally:
            op.dequantize()
        changed: dict[str, Tensor] = {}
        store(op, [channels_last(value) for value in outputs], changed)
        behind = self._plan.behind[op.name]
        readers = _count_readers(behind)
        for later in behind:
            inputs = [
                changed.get(variable.name, self._values.get(variable.name, variable.value))
                for variable in later.inputs
            ]
            store(later, self._runner.run(later, inputs), changed)
            _release(later, changed, readers, frozenset(self._plan.graph.outputs))
        for name in self._plan.graph.outputs:
            exact = self._values[name]
            self._recorders[op.name].update(y_pred=changed.get(name, exact), y_real=exact)


def _count_readers(ops: Iterable[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for op in ops:
        for variable in op.inputs:
            counts[variable.name] = counts.get(variable.name, 0) + 1
    return counts


def _release(
    op: Any, values: dict[str, Tensor], readers: dict[str, int], kept: frozenset[str]
) -> None:
    for variable in op.inputs:
        readers[variable.name] -= 1
        if readers[variable.name] == 0 and variable.name not in kept:
            values.pop(variable.name, None)


def _compare(op: Any, float_records: _Records, records: _Records) -> float:
    recorder = MeasureRecorder("snr")
    pairs = zip(float_records.outputs[op.name], records.outputs[op.name], strict=True)
    for float_values, quantized in pairs:
        recorder.update(y_pred=quantized, y_real=float_values)
    return float(recorder.measure)


def _pairs(plan: _Plan, float_records: _Records, records: _Records) -> Iterable[tuple[Any, ...]]:
    for op in plan.watched:
        for kind, variables in (("input", op.inputs), ("output", op.outputs)):
            for place, variable in enumerate(variables):
                before = float_records.tensors.get((op.name, kind, place))
                after = records.tensors.get((op.name, kind, place))
                if before and after:
                    yield op, variable, torch.cat(before), torch.cat(after)
