"""What 16 bits win: groups of ops through which an activation keeps its width, and their noise.

An op with 16 bits between ops of 8 gains little: what it reads was rounded to 8 bits before, and
what it puts out is cut to 8 bits behind it. So ops are promoted in groups: the op that writes an
activation, and all that read it. What a group wins is measured with everything else as it is, by
running its ops without rounding. That is what 16 bits come to: with scales that hold every value,
their rounding has at most 2^-16 of the noise power of 8 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from esp_ppq.core import PASSIVE_OPERATIONS, QuantizationStates
from esp_ppq.IR import QuantableOperation
from torch import Tensor

from espdl_quantize.contract import Batch
from espdl_quantize.core import Progress
from espdl_quantize.ppq.fast import (
    NO_BOUNDS,
    OpRunner,
    count_readers,
    fake_quantize,
    feed,
    inputs_of,
    release,
    store,
)
from espdl_quantize.ppq.measure.plan import Plan
from espdl_quantize.record import OpGroup

MOST_GROUPS = 60
"""Of more groups, those of the ops with the largest errors are measured."""

MOST_WORK = 1e11
"""Multiplications that all trials of an iteration may take, which are some ten seconds of a core:
of a large network fewer groups are measured, those with the largest errors."""

LEAST_GROUPS = 12
"""So many are measured whatever they take."""

_ELEMENTWISE = 20.0
"""What an element takes beside multiplications of weights, in these: it is rounded, too."""


@dataclass(frozen=True)
class MeasuredWidths:
    """What other widths would come to.

    Attributes:
        noise: of the outputs as the graph is.
        samples: how many it was measured on.
        promotions: groups of 8-bit ops, with 16.
        demotions: groups of 16-bit ops, with 8.
    """

    noise: float
    samples: int
    promotions: tuple[OpGroup, ...]
    demotions: tuple[OpGroup, ...]


def measure_widths(
    graph: Any,
    batch: Batch,
    device: str,
    widest: Collection[str],
    errors: Mapping[str, float],
    progress: Progress,
) -> MeasuredWidths:
    """Measure what groups of ops win with 16 bits, and what those that have them lose with 8.

    Args:
        graph: a quantized ``BaseGraph``; it is the same before and after.
        batch: samples that calibration did not see, where there are any.
        device: where the graph runs.
        widest: types of the ops that the chip computes with 16 bits.
        errors: by computing op, the error at the outputs where it alone is quantized.
        progress: notified of each group.
    """
    plan = Plan.of(graph)
    inputs = feed(graph, batch)
    with torch.no_grad():
        wanted = _float_outputs(plan, device, inputs)
        trial = _Trial(plan, device, inputs, wanted)
        groups = Groups(plan, widest)
        promotions = trial.affordable(groups.promotions(errors), MOST_WORK)
        demotions = trial.affordable(groups.demotions(), MOST_WORK / 4)
        measured: list[OpGroup] = []
        for number, ops in enumerate((*promotions, *demotions)):
            total = len(promotions) + len(demotions)
            progress.update(number, total, f"group {number + 1} of {total}")
            narrow = number >= len(promotions)
            cuts = () if narrow else groups.cuts(ops)
            noise = trial.noise_with(ops, to_8_bits=narrow)
            measured.append(OpGroup(groups.in_order(ops), noise, cuts))
    return MeasuredWidths(
        trial.noise,
        batch.sample_count,
        tuple(measured[: len(promotions)]),
        tuple(measured[len(promotions) :]),
    )


class Groups:
    """Which ops of a quantized graph change their width together.

    A cluster is what has one width: a Conv and the Relu that its output is rounded behind,
    ops that hand integers on and what wrote these, an Add and the convolutions whose outputs have
    its scale. A group is a cluster with all the clusters that read what it puts out, and what
    those hand on through ops of one value, products and sums, up to the next ops with weights.

    Args:
        plan: of the graph.
        widest: types of the ops that the chip computes with 16 bits; a cluster with any other op
            is in no group.
    """

    def __init__(self, plan: Plan, widest: Collection[str]) -> None:
        self._plan = plan
        self._place = {op.name: place for place, op in enumerate(plan.order)}
        self._op = {op.name: op for op in plan.order}
        self._cluster = _clusters(plan)
        self._blocked = {
            self._cluster[op.name]
            for op in plan.order
            if not isinstance(op, QuantableOperation) or kind_of(op) not in widest
        }

    def promotions(self, errors: Mapping[str, float]) -> list[frozenset[str]]:
        """Return the groups of 8-bit ops, those with the largest errors first."""
        groups: dict[frozenset[str], None] = {}
        whole: set[str] = set()
        for cluster in dict.fromkeys(self._cluster.values()):
            if not self._can_widen(cluster):
                continue
            whole |= self._members(cluster)
            groups[self._members(cluster)] = None
            for across_sums in (False, True):
                groups[self._with_readers(cluster, across_sums=across_sums)] = None
        if whole:
            groups[frozenset(whole)] = None
        # Ops that have 16 bits already cost and win nothing more.
        narrow = {frozenset(op for op in ops if not is_wide(self._op[op])): None for ops in groups}
        found = [ops for ops in narrow if ops and any(self._op[op].is_computing_op for op in ops)]
        found.sort(key=lambda ops: -sum(errors.get(op, 0.0) for op in ops) / len(ops))
        kept = found[:MOST_GROUPS]
        return kept if not whole or frozenset(whole) in kept else [*kept[:-1], frozenset(whole)]

    def demotions(self) -> list[frozenset[str]]:
        """Return the clusters of 16-bit ops, and what of them hangs together."""
        wide = [op for op in self._plan.order if isinstance(op, QuantableOperation) and is_wide(op)]
        groups: dict[frozenset[str], None] = {}
        for op in wide:
            members = self._members(self._cluster[op.name])
            groups[frozenset(name for name in members if is_wide(self._op[name]))] = None
        pieces = [set(ops) for ops in groups]
        for op in wide:
            readers = {
                reader.name
                for variable in op.outputs
                for reader in variable.dest_ops
                if reader.name in self._op and is_wide(reader)
            }
            joined = [piece for piece in pieces if piece & {op.name, *readers}]
            pieces = [piece for piece in pieces if piece not in joined]
            pieces.append(set().union(*joined))
        for piece in pieces:
            groups[frozenset(piece)] = None
        return list(groups)[:MOST_GROUPS]

    def cuts(self, ops: Collection[str]) -> tuple[str, ...]:
        """Return the activations of a group that an op outside of it reads with 8 bits."""
        cut = []
        for name in self.in_order(ops):
            for variable in self._op[name].outputs:
                outside = [
                    op
                    for op in variable.dest_ops
                    if op.name not in ops and isinstance(op, QuantableOperation) and not is_wide(op)
                ]
                if outside:
                    cut.append(str(variable.name))
        return tuple(cut)

    def in_order(self, ops: Collection[str]) -> tuple[str, ...]:
        """Return names in the order in which the ops run."""
        return tuple(sorted(ops, key=self._place.__getitem__))

    def _members(self, cluster: str) -> frozenset[str]:
        return frozenset(name for name, root in self._cluster.items() if root == cluster)

    def _can_widen(self, cluster: str) -> bool:
        return cluster not in self._blocked

    def _with_readers(self, cluster: str, *, across_sums: bool) -> frozenset[str]:
        """Follow what a cluster puts out, up to the next ops with weights."""
        found, reached = {cluster}, [cluster]
        while reached:
            for reader in self._readers(reached.pop()):
                if reader in found or not self._can_widen(reader):
                    continue
                found.add(reader)
                if self._hands_on(reader, across_sums=across_sums):
                    reached.append(reader)
        return frozenset().union(*(self._members(each) for each in found))

    def _readers(self, cluster: str) -> Iterator[str]:
        for name in self._members(cluster):
            for variable in self._op[name].outputs:
                for reader in variable.dest_ops:
                    if reader.name in self._cluster and self._cluster[reader.name] != cluster:
                        yield self._cluster[reader.name]

    def _hands_on(self, cluster: str, *, across_sums: bool) -> bool:
        """Tell whether an activation passes through a cluster."""
        ops = [self._op[name] for name in self._members(cluster)]
        if any(op.is_computing_op for op in ops):
            return False
        return across_sums or not any(op.type in ("Add", "Sub", "Concat") for op in ops)


def is_wide(op: Any) -> bool:
    """Tell whether an op has activations of 16 bits."""
    if not isinstance(op, QuantableOperation) or not op.config.output_quantization_config:
        return False
    return bool(op.config.output_quantization_config[0].num_of_bits == 16)


def kind_of(op: Any) -> str:
    """Return an op's type; of one that became a table, what it was."""
    return str(op.attributes.get("original_op_type", op.type))


def _clusters(plan: Plan) -> dict[str, str]:
    """Return, by op, the first op of its cluster."""
    root = {op.name: op.name for op in plan.order}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    owner = {
        id(config): op.name
        for op in plan.quantable
        for config in op.config.output_quantization_config
    }
    for op in plan.quantable:
        for config in op.config.output_quantization_config:
            other = owner.get(id(config.dominated_by))
            if other is not None:
                root[find(other)] = find(op.name)
        if op.type in PASSIVE_OPERATIONS:
            for variable in op.inputs[:1]:
                if variable.source_op is not None and variable.source_op.name in root:
                    root[find(op.name)] = find(variable.source_op.name)
    return {name: find(name) for name in root}


class _Trial:
    """Runs a quantized graph on one batch, with some of its ops at another width."""

    def __init__(
        self, plan: Plan, device: str, inputs: dict[str, Tensor], wanted: Sequence[Tensor]
    ) -> None:
        self._plan, self._wanted = plan, wanted
        self._as_it_is = OpRunner(device)
        self._exactly = OpRunner(device, lambda tensor, config, bounds: _exact(tensor, bounds))
        self._coarsely = OpRunner(device, _coarse)
        self._values = dict(inputs)
        for op in plan.order:
            store(op, self._as_it_is.run(op, inputs_of(op, self._values)), self._values)
        self.noise = self._noise({})

    def affordable(self, groups: Sequence[frozenset[str]], most: float) -> list[frozenset[str]]:
        """Return the first groups that may be measured for so many multiplications.

        The largest is among them: it says what there is to win at all.
        """
        kept: list[frozenset[str]] = []
        spent = 0.0
        largest = max(groups, key=len, default=None)
        for ops in sorted(groups, key=lambda ops: ops != largest):
            spent += sum(self._work(op) for op in self._affected(ops))
            if spent > most and len(kept) >= LEAST_GROUPS:
                break
            kept.append(ops)
        return [ops for ops in groups if ops in kept]

    def _affected(self, ops: Collection[str]) -> Iterator[Any]:
        """Yield what has to run again where these ops change."""
        changed: set[str] = set()
        for op in self._plan.order:
            if op.name in ops or any(variable.name in changed for variable in op.inputs):
                changed.update(variable.name for variable in op.outputs)
                yield op

    def _work(self, op: Any) -> float:
        """Return about how many multiplications an op takes."""
        total = 0.0
        for variable in op.outputs:
            value = self._values.get(variable.name)
            if not isinstance(value, Tensor):
                continue
            each = _ELEMENTWISE
            for parameter in op.inputs:
                weight = parameter.value
                if op.is_computing_op and isinstance(weight, Tensor) and weight.dim() > 1:
                    channels = value.shape[1 if "Conv" in op.type else -1]
                    each += weight.numel() / max(channels, 1)
            total += value.numel() * each
        return total

    def noise_with(self, ops: Collection[str], *, to_8_bits: bool = False) -> float:
        """Return the noise of the outputs where these ops have 16 bits, or 8 in place of 16.

        Only they and what depends on them is run again.
        """
        changed: dict[str, Tensor] = {}
        readers = count_readers(self._plan.order)
        for op in self._plan.order:
            names = [variable.name for variable in op.inputs]
            if op.name not in ops and not any(name in changed for name in names):
                continue
            values = [
                changed.get(name, self._values.get(name, variable.value))
                for name, variable in zip(names, op.inputs, strict=True)
            ]
            inside = op.name in ops
            if to_8_bits:
                outputs = self._narrow(op, values) if inside else self._as_it_is.run(op, values)
            elif inside and op.type != "LUT":
                outputs = self._exactly.run(op, values)
            else:
                values = [self._cut(op, place, value, ops) for place, value in enumerate(values)]
                outputs = self._as_it_is.run(op, values)
            store(op, outputs, changed)
            release(op, changed, readers, self._plan.graph.outputs)
        return self._noise(changed)

    def _cut(self, op: Any, place: int, value: Any, ops: Collection[str]) -> Any:
        """Round what a promoted op wrote to the 8 bits that an op outside of the group reads."""
        source = op.inputs[place].source_op
        if source is None or source.name not in ops or not isinstance(op, QuantableOperation):
            return value
        config = op.config.input_quantization_config[place]
        if QuantizationStates.is_activated(config.state):
            # Its own rounding is the only one.
            return value
        return fake_quantize(value, config.dominated_by)

    def _narrow(self, op: Any, values: list[Any]) -> list[Any]:
        """Run an op whose activations and weights are rounded to 8 bits."""
        kind, original = op.type, kind_of(op)
        if isinstance(op, QuantableOperation):
            configs = op.config.input_quantization_config
            values = [
                _coarse(value, config.dominated_by)
                for value, config in zip(values, configs, strict=False)
            ]
        op.type = original
        try:
            return self._coarsely.run(op, values)
        finally:
            op.type = kind

    def _noise(self, changed: Mapping[str, Tensor]) -> float:
        """Return the mean over the outputs of noise power over signal power."""
        ratios = []
        for name, wanted in zip(self._plan.graph.outputs, self._wanted, strict=True):
            found = changed.get(name, self._values[name])
            if not wanted.is_floating_point():
                continue
            wanted, found = wanted.double(), found.double()
            power = float(wanted.square().sum())
            ratios.append(float((found - wanted).square().sum()) / max(power, 1e-30))
        return sum(ratios) / len(ratios) if ratios else 0.0


def _exact(tensor: Any, bounds: Any) -> Any:
    return tensor if tensor is None else bounds.of(tensor)


def _coarse(tensor: Any, config: Any, bounds: Any = NO_BOUNDS) -> Any:
    """Round to 8 bits in the range that a configuration of 16 bits has."""
    if tensor is None:
        return None
    is_active = QuantizationStates.is_activated(config.state)
    if not is_active or config.num_of_bits != 16 or config.scale is None:
        return fake_quantize(tensor, config, bounds)
    value = bounds.of(tensor)
    scale = config.scale * 256
    if scale.dim() and scale.numel() > 1:
        shape = [1] * value.dim()
        shape[config.channel_axis] = -1
        scale = scale.view(shape)
    return (value / scale).round().clamp(-128, 127) * scale


def _float_outputs(plan: Plan, device: str, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Return what the float graph puts out; a table is the function that it stands for."""
    values, runner, kinds = dict(inputs), OpRunner(device), {}
    for op in plan.quantable:
        op.dequantize()
        kinds[op.name] = op.type
        op.type = kind_of(op)
    readers = count_readers(plan.order)
    try:
        for op in plan.order:
            store(op, runner.run(op, inputs_of(op, values)), values)
            release(op, values, readers, plan.graph.outputs)
    finally:
        for op in plan.quantable:
            op.type = kinds[op.name]
            op.restore_quantize_state()
    return [values[name] for name in plan.graph.outputs]
