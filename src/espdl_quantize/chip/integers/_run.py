"""Runs a file in integers, op by op and end to end, beside esp-ppq's simulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from espdl_quantize.chip._facts import ChipFacts
from espdl_quantize.chip._model import ChipModel, Node
from espdl_quantize.chip._model import Tensor as FileTensor
from espdl_quantize.chip.integers import (  # noqa: F401, they register
    elements,
    moves,
    recurrent,
    sums,
)
from espdl_quantize.chip.integers._agreement import (
    Agreement,
    IntegerCheck,
    OpAgreement,
    SkippedOp,
)
from espdl_quantize.chip.integers._arithmetic import to_integers, to_reals
from espdl_quantize.chip.integers._call import KERNELS, Call, Misfit, Unsupported
from espdl_quantize.contract import Batch
from espdl_quantize.ppq import QuantizationEngine, ReferenceEngine, run_graph

Layouts = Mapping[str, tuple[int, ...]]


def check_integers(
    model: ChipModel,
    facts: ChipFacts,
    graph: Any,
    layouts: Layouts,
    samples: list[Batch],
    device: str = "cpu",
    *,
    engine: QuantizationEngine | None = None,
) -> IntegerCheck:
    """Compute samples from the file's integers alone, and compare with the simulation.

    Args:
        model: the file, which must be legal.
        facts: its chip.
        graph: the quantized ``BaseGraph`` that it was exported from.
        layouts: what :func:`espdl_quantize.ppq.export` returned with it.
        samples: inputs, each a batch of one.
        device: where the simulation runs.
        engine: runs the ops that have no integer form; None for plain esp-ppq.
    """
    engine = engine or ReferenceEngine()
    return _Check(model, facts, graph, layouts, device, engine).over(samples)


class _Check:
    def __init__(
        self,
        model: ChipModel,
        facts: ChipFacts,
        graph: Any,
        layouts: Layouts,
        device: str,
        engine: QuantizationEngine,
    ) -> None:
        self._engine = engine
        self._model, self._facts, self._graph = model, facts, graph
        self._layouts, self._device = layouts, device
        self._constants = {name: _shaped(one) for name, one in model.constants.items()}
        # What the simulation has a value of, and the chip keeps.
        self._shared = [name for name in model.values if name and name in graph.variables]
        self._ops: dict[str, Agreement] = {}
        self._skipped: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._whole: Agreement | None = Agreement()

    def over(self, samples: list[Batch]) -> IntegerCheck:
        with torch.no_grad():
            for sample in samples:
                simulated = self._simulate(sample)
                self._op_by_op(simulated)
                self._end_to_end(simulated)
        types = {node.name: node.op_type for node in self._model.nodes}
        return IntegerCheck(
            len(samples),
            tuple(
                OpAgreement(name, types[name], found, self._notes.get(name, ""))
                for name, found in self._ops.items()
            ),
            tuple(SkippedOp(name, types[name], why) for name, why in self._skipped.items()),
            self._whole,
        )

    def _simulate(self, sample: Batch) -> dict[str, Tensor]:
        """Return the simulation's value of every shared tensor, as integers where the chip's are,
        with its axes in the chip's order."""
        found = run_graph(self._graph, sample, self._device, self._shared)
        return {
            name: self._as_on_chip(name, value)
            for name, value in zip(self._shared, found, strict=True)
            if value is not None
        }

    def _as_on_chip(self, name: str, value: Tensor) -> Tensor:
        value = value.detach().cpu()
        axes = self._layouts.get(name)
        if axes is not None and len(axes) == value.dim():
            value = value.permute(axes)
        tensor = self._model.values[name]
        if not tensor.is_integer:
            return value
        return to_integers(value, tensor.exponent, tensor.dtype, self._facts.rounding)

    def _op_by_op(self, simulated: Mapping[str, Tensor]) -> None:
        """Compute each op from the simulation's inputs, so that no difference spreads."""
        # What the exporter inserted is no op of the simulation: its outputs are computed.
        added: dict[str, Tensor] = {}
        for node in self._model.nodes:
            if any(name and self._value(name, simulated, added) is None for name in node.inputs):
                self._skipped.setdefault(node.name, "it is fed by an op that is skipped")
                continue
            try:
                outputs, overflows = self._call(node, simulated, added)
                found = self._compared(node, outputs, simulated)
            except Unsupported as reason:
                self._skipped.setdefault(node.name, str(reason))
                continue
            except Misfit as reason:
                self._notes.setdefault(node.name, str(reason))
                found = [
                    _nothing_equal(simulated[output])
                    for output in node.outputs
                    if output in simulated
                ]
                outputs, overflows = [], 0
            added.update(
                (name, value)
                for name, value in zip(node.outputs, outputs, strict=False)
                if name not in simulated
            )
            if found:
                whole = sum(found, Agreement(overflows=overflows))
                self._ops[node.name] = self._ops.get(node.name, Agreement()) + whole

    def _compared(
        self, node: Node, outputs: list[Tensor], simulated: Mapping[str, Tensor]
    ) -> list[Agreement]:
        return [
            _compare(value, simulated[name])
            for name, value in zip(node.outputs, outputs, strict=False)
            if name in simulated and not value.is_floating_point()
        ]

    def _end_to_end(self, simulated: Mapping[str, Tensor]) -> None:
        chain = {name: simulated[name] for name in self._model.inputs if name in simulated}
        if self._whole is None:
            return
        for node in self._model.nodes:
            try:
                outputs, _ = self._call(node, chain, {})
            except Misfit:
                self._whole = None
                return
            except Unsupported:
                found = self._by_simulation(node, chain)
                if found is None:
                    self._whole = None
                    return
                outputs = found
            chain.update(zip(node.outputs, outputs, strict=False))
        for name in self._model.outputs:
            if name in simulated and name in chain and not chain[name].is_floating_point():
                self._whole = self._whole + _compare(chain[name], simulated[name])

    def _by_simulation(self, node: Node, chain: Mapping[str, Tensor]) -> list[Tensor] | None:
        """Compute an op that has no integer form as the simulation does, on the chain's inputs."""
        op = self._graph.operations.get(node.name)
        if op is None or [output.name for output in op.outputs] != list(node.outputs):
            return None
        values: dict[str, Tensor] = {}
        for variable, name in zip(op.inputs, node.inputs, strict=False):
            if not name or variable.is_parameter:
                continue
            tensor, value = self._model.values.get(name), chain.get(name)
            if tensor is None or value is None:
                return None
            real = to_reals(value, tensor.exponent) if tensor.is_integer else value
            axes = self._layouts.get(name)
            if axes is not None and len(axes) == real.dim():
                real = real.permute([axes.index(axis) for axis in range(len(axes))])
            if variable.name != name:
                real = _transposed(real, variable, name)
            values[variable.name] = real.to(self._device)
        try:
            outputs = self._engine.run_op(self._graph, op, values, self._device)
        except RuntimeError:
            return None
        return [
            self._as_on_chip(name, value) for name, value in zip(node.outputs, outputs, strict=True)
        ]

    def _call(
        self, node: Node, values: Mapping[str, Tensor], added: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], int]:
        function = KERNELS.get(node.op_type)
        if node.width == "F32" and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            raise Unsupported("it is computed in float on the chip")
        if function is None:
            raise Unsupported("it is computed in float on the chip, or in a way not known here")
        call = Call(
            self._model,
            node,
            self._facts,
            [self._value(name, values, added) if name else None for name in node.inputs],
        )
        try:
            return function(call), call.overflows
        except (RuntimeError, IndexError, ValueError) as error:
            raise Misfit(f"its numbers do not fit: {str(error).splitlines()[0]}") from error

    def _value(
        self, name: str, values: Mapping[str, Tensor], added: Mapping[str, Tensor]
    ) -> Tensor | None:
        for held in (self._constants, values, added):
            if name in held:
                return held[name]
        return None


def _transposed(value: Tensor, variable: Any, name: str) -> Tensor:
    """Make the graph's variable of the one whose name the file has instead.

    Where a layout makes transposes needless, the exporter drops them, so that an op reads in the
    file what the graph transposes first.
    """
    orders = []
    while variable.name != name:
        source = variable.source_op
        if source is None or source.type != "Transpose":
            return value
        variable = source.inputs[0]
        orders.append(source.attributes.get("perm", tuple(range(value.dim()))[::-1]))
    for order in reversed(orders):
        value = value.permute(tuple(order))
    return value


def _shaped(constant: FileTensor) -> Tensor:
    """Return a constant's numbers, int64 or float64, in the file's shape."""
    if constant.data is None:
        return torch.zeros(constant.shape or (0,), dtype=torch.int64)
    numbers = torch.from_numpy(constant.data.copy())
    wide = numbers.double() if numbers.is_floating_point() else numbers.long()
    return wide.reshape(constant.shape if constant.shape is not None else (-1,))


def _nothing_equal(simulated: Tensor) -> Agreement:
    values = simulated.abs()
    return Agreement(values.numel(), 0, int(values.max()) if values.numel() else 0)


def _compare(ours: Tensor, simulated: Tensor) -> Agreement:
    # By their order in memory: the file says [T, 1, B, 2 H] of a GRU's states in both directions,
    # and the kernel gives them as [T, 2, B, H].
    if ours.numel() != simulated.numel():
        raise Misfit(f"its output is {tuple(ours.shape)}, not {tuple(simulated.shape)}")
    apart = (ours.flatten() - simulated.flatten()).abs()
    return Agreement(
        apart.numel(), int((apart == 0).sum()), int(apart.max()) if apart.numel() else 0
    )
