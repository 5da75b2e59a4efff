"""Which exponents of a quantized graph can move, and which of them move together.

An exponent belongs to the configuration that dominates others in esp-ppq. ESP-DL asks for more: its
Add, Sub and comparisons read no exponent, ops that hand integers on have one for what comes in and
goes out, and a bias has that of the sum that it is added to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from esp_ppq.core import PASSIVE_OPERATIONS, QuantizationProperty, QuantizationStates
from esp_ppq.IR import QuantableOperation
from torch import Tensor

_TIED = PASSIVE_OPERATIONS | {
    *("Add", "Sub", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    *("Clip", "Concat", "DepthToSpace", "InsertZeros", "PRelu", "Relu", "Resize", "SpaceToDepth"),
}
"""Ops whose inputs and outputs keep the distance that their exponents have: those that ESP-DL adds,
compares, copies or cuts off as raw integers."""

_FIXED = frozenset({"Attention", "GRU", "LSTM", "PPQBiasFusedMatMul"})
"""Ops with exponents inside that esp-ppq fixes: nothing that they read or write moves."""

_BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Ops whose bias has the exponent of the sum: PassiveParameterQuantizePass of esp-ppq."""

_SHIFTED = _BIASED | {"MatMul", "Mul"}
"""Ops whose product is shifted right into the output."""

_LARGEST = 30
"""Of an exponent, as of a file that ESP-DL reads."""

_DEEPEST = {8: 31, 16: 63}
"""Of a shift, by the width of the activations: beyond it nothing is left of a sum."""


@dataclass(frozen=True, eq=False)
class Group:
    """Exponents that move together.

    Attributes:
        configs: that have them; each dominates others or stands alone.
        ops: that compute otherwise once they have moved, in the order in which they run.
        name: a tensor that has one of them.
        channels: how many exponents one tensor has; more than 1 for weights per channel alone.
    """

    configs: tuple[Any, ...]
    ops: tuple[Any, ...]
    name: str
    channels: int

    @property
    def scales(self) -> tuple[Tensor, ...]:
        """The powers of two, a tensor for each configuration."""
        return tuple(config.scale for config in self.configs)


class Exponents:
    """The exponents of a graph that can move.

    Args:
        order: the ops of a quantized graph, in the order in which they run.
        layers: names of ops; only what one of them reads or writes moves. Empty for every op.

    Attributes:
        groups: in the order in which the ops run that they matter to first, weights behind
            activations.
    """

    def __init__(self, order: Sequence[Any], layers: Collection[str] = ()) -> None:
        self._ops = [op for op in order if isinstance(op, QuantableOperation)]
        self._biased = {op.name: op for op in self._ops if has_bias(op)}
        place = {op.name: at for at, op in enumerate(self._ops)}
        held = _Held(self._ops)
        found = []
        for keys in held.sets():
            configs = tuple(held.configs[key] for key in keys)
            names = sorted({op for key in keys for op in held.ops[key]}, key=place.__getitem__)
            seen = {op for key in keys for op in held.seen[key]}
            if not names or any(key in held.fixed for key in keys):
                continue
            if layers and not seen & set(layers):
                continue
            ops = tuple(self._ops[place[name]] for name in names)
            channels = max(config.scale.numel() for config in configs)
            found.append(Group(configs, ops, held.name[keys[0]], channels))
        self.groups = tuple(sorted(found, key=lambda group: place[group.ops[0].name]))

    def move(self, group: Group, scales: Sequence[Tensor]) -> None:
        """Give a group other powers of two; biases follow."""
        for config, scale in zip(group.configs, scales, strict=True):
            config.scale = scale
        for op in group.ops:
            if op.name in self._biased:
                first, weight, bias = op.config.input_quantization_config[:3]
                bias.scale = first.scale * weight.scale

    def moved(self, group: Group, steps: int | Tensor) -> tuple[Tensor, ...] | None:
        """Return the powers of two of a group after some steps upwards.

        Args:
            group: of this graph.
            steps: for all exponents, or one for each channel.

        Returns:
            None where a chip could not compute it, and could before.
        """
        before = self._shifts(group)
        former = group.scales
        if not isinstance(steps, Tensor):
            steps = torch.tensor(steps)
        factors = torch.exp2(steps.to(torch.float32))
        after = tuple(scale * factors.to(scale) for scale in former)
        if any(bool((exponents_of(scale).abs() > _LARGEST).any()) for scale in after):
            return None
        self.move(group, after)
        try:
            now = self._shifts(group)
        finally:
            self.move(group, former)
        for (old, _), (new, deepest) in zip(before, now, strict=True):
            if bool((new < old.clamp(max=0)).any()) or bool((new > old.clamp(min=deepest)).any()):
                return None
        return after

    def room(self, op: Any) -> Tensor:
        """Return how many steps upwards each exponent of an op's weights has to the least shift."""
        shifts = _shift_of(op)
        return torch.tensor(_LARGEST) if shifts is None else shifts.clamp(min=0)

    def _shifts(self, group: Group) -> list[tuple[Tensor, int]]:
        keys = {id(config) for config in group.configs}
        shifts = []
        for op in self._ops:
            configs = op.config.input_quantization_config[:2]
            configs = [*configs, *op.config.output_quantization_config[:1]]
            if op.type in _SHIFTED and keys & {id(config.dominated_by) for config in configs}:
                shift = _shift_of(op)
                if shift is not None:
                    bits = op.config.output_quantization_config[0].num_of_bits
                    shifts.append((shift, _DEEPEST.get(bits, _DEEPEST[16])))
        return shifts


class _Held:
    """The configurations that have an exponent of their own, and what ties them."""

    def __init__(self, ops: Sequence[Any]) -> None:
        self.configs: dict[int, Any] = {}
        self.ops: dict[int, set[str]] = {}
        self.seen: dict[int, set[str]] = {}
        self.name: dict[int, str] = {}
        self.fixed: set[int] = set()
        self._root: dict[int, int] = {}
        for op in ops:
            for config, variable in op.config_with_variable:
                if _is_held(config):
                    self._add(op, config, variable)
                elif config.state in (QuantizationStates.BAKED, QuantizationStates.PASSIVE_BAKED):
                    # What was rounded for good does not follow.
                    self.fixed |= set(self._keys_of(op))
        for op in ops:
            if op.type in _TIED:
                self._tie(self._keys_of(op))
            if op.type in _FIXED:
                self.fixed |= set(self._keys_of(op))
            if has_bias(op):
                for config in op.config.input_quantization_config[:2]:
                    if id(config.dominated_by) in self.configs:
                        self.ops[id(config.dominated_by)].add(op.name)
        self._tie_readers(ops)

    def sets(self) -> Iterator[tuple[int, ...]]:
        """Yield what moves together."""
        sets: dict[int, list[int]] = {}
        for key in self.configs:
            sets.setdefault(self._find(key), []).append(key)
        yield from (tuple(keys) for keys in sets.values())

    def _add(self, op: Any, config: Any, variable: Any) -> None:
        owner = config.dominated_by
        key = id(owner)
        if key not in self.configs:
            self.configs[key], self._root[key] = owner, key
            self.ops[key], self.seen[key] = set(), set()
            self.name[key] = str(variable.name)
        self.seen[key].add(op.name)
        # What another op has rounded is not rounded again.
        if QuantizationStates.is_activated(config.state):
            self.ops[key].add(op.name)
        is_power = owner.policy.has_property(QuantizationProperty.POWER_OF_2)
        if not is_power or not owner.is_revisable():
            self.fixed.add(key)

    def _keys_of(self, op: Any) -> list[int]:
        keys = [id(config.dominated_by) for config, _ in op.config_with_variable]
        return [key for key in dict.fromkeys(keys) if key in self.configs]

    def _tie_readers(self, ops: Sequence[Any]) -> None:
        """Tie what two ops read of one tensor at one exponent: the file has one."""
        readers: dict[str, list[int]] = {}
        for op in ops:
            for config, variable in op.config_with_variable:
                key = id(config.dominated_by)
                if key in self.configs:
                    readers.setdefault(variable.name, []).append(key)
        for keys in readers.values():
            first = self.configs[keys[0]].scale
            self._tie([key for key in keys if torch.equal(self.configs[key].scale, first)])

    def _tie(self, keys: Sequence[int]) -> None:
        for key in keys[1:]:
            self._root[self._find(key)] = self._find(keys[0])

    def _find(self, key: int) -> int:
        while self._root[key] != key:
            key = self._root[key]
        return key


def _is_held(config: Any) -> bool:
    is_used = QuantizationStates.is_activated(config.state)
    is_bias = config.state == QuantizationStates.PASSIVE and config.dominated_by is config
    if not (is_used or config.state == QuantizationStates.OVERLAPPED) or is_bias:
        return False
    return isinstance(config.dominated_by.scale, Tensor)


def has_bias(op: Any) -> bool:
    """Tell whether an op has a bias whose exponent follows its input's and its weights'."""
    configs: Sequence[Any] = op.config.input_quantization_config
    if op.type not in _BIASED or len(configs) < 3:
        return False
    bias = configs[2]
    return bool(bias.state == QuantizationStates.PASSIVE and bias.dominated_by is bias)


def exponents_of(scale: Tensor) -> Tensor:
    """Return the exponents of powers of two, as integers."""
    return torch.log2(scale.detach().double().cpu()).round().long()


def _shift_of(op: Any) -> Tensor | None:
    inputs, outputs = op.config.input_quantization_config, op.config.output_quantization_config
    if op.type not in _SHIFTED or len(inputs) < 2 or not outputs:
        return None
    scales = [config.scale for config in (outputs[0], *inputs[:2])]
    if not all(isinstance(scale, Tensor) for scale in scales):
        return None
    output, first, second = map(exponents_of, scales)
    return output - first - second
