"""Kernels that step through a sequence: GRU and LSTM, whose gates are of 16 bits.

As ESP-DL 3.3.9's ``dl_module_gru.hpp`` and ``dl_module_lstm.hpp`` do it: the products go into 16
bits of the gates' exponent, sigmoid and tanh are read from tables that end at 6.3 and 3.5, and what
is left is float32. The simulation has neither the ends of the tables nor the wrap of the sums, so
that a gate beyond them differs here as it does on a chip. A compiler may join a product and a sum
into one rounding; the last bit of a float32 that differs by that is not followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from espdl_quantize.chip.integers._arithmetic import LIMITS, rescale
from espdl_quantize.chip.integers._call import Call, Unsupported, kernel
from espdl_quantize.targets import Rounding

Array = npt.NDArray[Any]

_GATE_EXPONENT = -8
"""Of a file that does not say (``deserialize`` of both modules)."""
_SIGMOID_ENDS, _TANH_ENDS = 6.3, 3.5
_WIDE = 40
"""Bits of the accumulator of the vector units' dot products (dl/base/isa)."""
_BLOCK = {"int8": 16, "int16": 8}
"""Numbers per vector: of other lengths the C function takes over (dl/base/dl_base_dotprod.cpp)."""


@kernel("LSTM")
def _lstm(call: Call) -> list[Tensor]:
    cells = _Cells(call, gates=4)
    cell_out = call.tensor(call.node.outputs[2]) if len(call.node.outputs) > 2 else None
    if cell_out is None or (cell_out.dtype, cell_out.exponent) != ("int16", cells.exponent):
        raise Unsupported("ESP-DL stops unless its cell is int16 with the exponent of the gates")
    of_cell, of_hidden = _unit(cells.exponent), _unit(call.out.exponent)
    finals: list[Tensor] = []

    def direction(number: int) -> Callable[[Tensor], Tensor]:
        cell = cells.initial(6, number)
        finals.append(cell)

        def step(hidden: Tensor) -> Tensor:
            sums = cells.wrapped(cells.of_input + cells.of_hidden(hidden) + cells.bias.sum(dim=0))
            into, out, keep = (_sigmoid(part, cells.exponent) for part in sums[:3])
            candidate = _tanh(sums[3], cells.exponent)
            kept = keep * finals[number].numpy().astype(np.float32)
            new = cells.wrapped(cells.rounded(kept + into * candidate * of_cell))
            finals[number] = new
            return cells.rounded(out * _tanh(new, cells.exponent) * of_hidden)

        return step

    outputs = cells.run(direction)
    return [*outputs, _shaped_as(call, 2, torch.stack(finals))]


@kernel("GRU")
def _gru(call: Call) -> list[Tensor]:
    if not call.attribute("linear_before_reset", 0):
        raise Unsupported("ESP-DL has no GRU without linear_before_reset")
    cells = _Cells(call, gates=3)
    of_hidden = _unit(call.out.exponent)

    def step(hidden: Tensor) -> Tensor:
        from_input = cells.wrapped(cells.of_input + cells.bias[0])
        from_hidden = cells.wrapped(cells.of_hidden(hidden) + cells.bias[1])
        update, reset = (_sigmoid(part, cells.exponent) for part in (from_input + from_hidden)[:2])
        old = from_hidden[2].numpy().astype(np.float32)
        index = cells.rounded(from_input[2].numpy().astype(np.float32) + reset * old)
        candidate = (np.float32(1) - update) * _tanh(index, cells.exponent) * of_hidden
        return cells.rounded(candidate + update * hidden.numpy().astype(np.float32))

    return cells.run(lambda number: step)


class _Cells:
    """What both have in common: shapes, sums of products, and the way through the sequence."""

    def __init__(self, call: Call, *, gates: int) -> None:
        self._call, self._gates = call, gates
        self._hidden = int(call.attribute("hidden_size", 0))
        self._directions = 2 if call.attribute("direction", "forward") == "bidirectional" else 1
        if call.attribute("direction", "forward") == "reverse":
            raise Unsupported("ESP-DL runs the direction reverse forward")
        self.exponent = int(call.attribute("gate_exponent", _GATE_EXPONENT))
        sequence = call.value(0)
        batch = sequence.shape[0 if call.attribute("layout", 0) else 1]
        if sequence.is_floating_point() or not call.out.is_integer or len(call.node.outputs) < 2:
            raise Unsupported("it is computed in float on the chip, or has no final state")
        if batch != 1:
            raise Unsupported(f"a batch of {batch}, of which the chip computes the first")
        self._sequence = sequence.reshape(-1, sequence.shape[-1])
        self._weights = self._matrices(1, sequence.shape[-1])
        self._recurrent = self._matrices(2, self._hidden)
        self._state_exponent = call.tensor(call.node.outputs[1]).exponent
        # Set anew for each direction and step.
        self.of_input, self.bias, self._number = torch.zeros(0), torch.zeros(0), 0

    def run(self, direction: Callable[[int], Callable[[Tensor], Tensor]]) -> list[Tensor]:
        """Step through every direction; return all hidden states, and the last ones."""
        states: list[Tensor] = []
        low, high = LIMITS[self._call.out.dtype]
        for number in range(self._directions):
            self._number, self.bias = number, self._biases(number)
            step, hidden, passed = direction(number), self.initial(5, number), []
            sequence = self._sequence.flip(0) if number else self._sequence
            for frame in sequence:
                product = self._weights[number] @ frame.double()
                self.of_input = self._stored(product, 1, self._call.exponent(0), len(frame))
                hidden = step(hidden).clamp(low, high)
                passed.append(hidden)
            whole = torch.stack(passed)
            states.append(whole.flip(0) if number else whole)
        last = [states[0][-1], *(state[0] for state in states[1:])]
        return [
            _shaped_as(self._call, 0, torch.stack(states, dim=1)),
            _shaped_as(self._call, 1, torch.stack(last)),
        ]

    def of_hidden(self, hidden: Tensor) -> Tensor:
        """Return what the state adds to the gates, int64 [gates, hidden size]."""
        product = self._recurrent[self._number] @ hidden.double()
        return self._stored(product, 2, self._state_exponent, len(hidden))

    def initial(self, place: int, number: int) -> Tensor:
        """Return a direction's initial state, zeros where none is given."""
        if not self._call.has(place):
            return torch.zeros(self._hidden, dtype=torch.int64)
        state = self._call.value(place)
        if state.is_floating_point():
            raise Unsupported("its initial state is float")
        return state.reshape(self._directions, self._hidden)[number]

    def wrapped(self, values: Tensor) -> Tensor:
        """Return what is left of sums in int16, which is no saturation; note those that wrap."""
        kept = (values + (1 << 15)) % (1 << 16) - (1 << 15)
        self._call.overflows += int((kept != values).sum())
        return kept

    def rounded(self, values: Array) -> Tensor:
        """Round float32 as ``tool::round`` does."""
        return torch.from_numpy(_round(values, self._call.facts.rounding))

    def _matrices(self, place: int, columns: int) -> Tensor:
        matrices = self._call.value(place)
        rows = self._gates * self._hidden
        if matrices.is_floating_point() or columns * 2**30 >= 2**53:
            raise Unsupported("its weights are float, or its sums may exceed 53 bits")
        return matrices.reshape(self._directions, rows, columns).double()

    def _biases(self, number: int) -> Tensor:
        """Return the two biases of a direction, int64 [2, gates, hidden size]."""
        shape = (self._directions, 2, self._gates, self._hidden)
        if not self._call.has(3):
            return torch.zeros(shape[1:], dtype=torch.int64)
        bias = self._call.tensor(self._call.node.inputs[3])
        if bias.dtype != "int16" or bias.exponent != self.exponent:
            raise Unsupported("its bias is not int16 with the exponent of the gates")
        return self._call.value(3).reshape(shape)[number]

    def _stored(self, product: Tensor, place: int, exponent: int, length: int) -> Tensor:
        """Return products in 16 bits (``dotprod``), int64 [gates, hidden size]."""
        shift = self.exponent - exponent - self._call.exponent(place)
        total, rounding = product.long(), self._call.facts.rounding
        block = _BLOCK[self._call.tensor(self._call.node.inputs[0]).dtype]
        if self._call.facts.vector_unit and length % block == 0 and shift >= 0:
            self._call.overflows += int((total.abs() >= 1 << (_WIDE - 1)).sum())
            found = rescale(total, shift, rounding)
        else:
            scaled = total.numpy().astype(np.float32) * np.float32(2.0**-shift)
            found = torch.from_numpy(_round(scaled, rounding))
        return found.clamp(*LIMITS["int16"]).reshape(self._gates, self._hidden)


def _shaped_as(call: Call, place: int, values: Tensor) -> Tensor:
    shape = call.tensor(call.node.outputs[place]).shape
    if shape is None or math.prod(shape) != values.numel():
        raise Unsupported("its output has another shape than its sequence makes")
    return values.reshape(shape)


def _unit(exponent: int) -> Any:
    return np.float32(2.0**-exponent)


def _round(values: Array, rounding: Rounding) -> Array:
    if rounding == "half-even":
        rounded: Array = np.rint(values)
    else:
        # floorf(value + 0.5), where the sum is a double and the argument a float again.
        rounded = np.floor((values.astype(np.float64) + 0.5).astype(np.float32))
    return rounded.astype(np.int64)


def _sigmoid(places: Tensor, exponent: int) -> Array:
    read = _read(places, _sigmoid_table(exponent))
    return np.where(places.numpy() >= 0, read, np.float32(1) - read)


def _tanh(places: Tensor, exponent: int) -> Array:
    read = _read(places, _tanh_table(exponent))
    return np.where(places.numpy() >= 0, read, -read)


def _read(places: Tensor, table: Array) -> Array:
    """Read a table of what is not negative; beyond its end its last entry (``get``)."""
    found: Array = table[np.minimum(np.abs(places.numpy()), len(table) - 1)]
    return found


@cache
def _sigmoid_table(exponent: int) -> Array:
    return _exact_sigmoid(_steps(exponent, _SIGMOID_ENDS))


@cache
def _tanh_table(exponent: int) -> Array:
    twice = _exact_sigmoid(np.float32(2) * _steps(exponent, _TANH_ENDS))
    table: Array = np.float32(2) * twice - np.float32(1)
    return table


def _steps(exponent: int, end: float) -> Array:
    last = int(np.float32(end) / np.float32(2.0**exponent)) + 1
    steps: Array = np.arange(last + 1).astype(np.float32) * np.float32(2.0**exponent)
    return steps


def _exact_sigmoid(values: Array) -> Array:
    """Compute ``1.0 / (1.0 + expf(-x))``: a float32 exponential, the rest in double."""
    exact: Array = 1.0 / (1.0 + np.exp(-values).astype(np.float64))
    return exact.astype(np.float32)
