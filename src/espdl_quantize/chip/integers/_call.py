"""One call of a kernel, with integers in its hands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from espdl_quantize.chip._facts import ChipFacts
from espdl_quantize.chip._model import ChipModel, Node
from espdl_quantize.chip._model import Tensor as FileTensor
from espdl_quantize.chip.integers._arithmetic import rescale, saturate
from espdl_quantize.chip.integers._unpack import alignment

_WIDE = 40
"""Bits of the accumulator that sums one channel at a time."""


class Unsupported(Exception):  # noqa: N818, a reason to go on and not an error
    """A kernel has no integer form here; the text says why."""


class Misfit(Exception):  # noqa: N818, a finding and not an error
    """The file's own numbers do not fit together; the text says where."""


@dataclass
class Call:
    """What a kernel sees.

    Attributes:
        model: the file.
        node: the op.
        facts: the chip.
        values: a tensor per input, int64 or float32; None for one that is left out. Constants are
            shaped, and still packed.
        overflows: sums that the chip's accumulator does not hold.
    """

    model: ChipModel
    node: Node
    facts: ChipFacts
    values: list[Tensor | None]
    overflows: int = field(default=0)

    def value(self, place: int) -> Tensor:
        """Return an input that the op cannot do without."""
        found = self.values[place] if place < len(self.values) else None
        if found is None:
            raise Unsupported(f"its input {place} is left out")
        return found

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self.values) and self.values[place] is not None

    def constant(self, place: int) -> FileTensor | None:
        """Return an input from the file, None where it is computed or left out."""
        inputs = self.node.inputs
        return self.model.constants.get(inputs[place]) if place < len(inputs) else None

    def numbers(self, place: int) -> list[int]:
        """Return a constant input as a list of integers."""
        if self.constant(place) is None:
            raise Unsupported(f"its input {place} is computed")
        return [int(number) for number in self.value(place).flatten().tolist()]

    def tensor(self, name: str) -> FileTensor:
        """Return what the file says of a tensor."""
        found = self.model.tensor(name)
        if found is None:
            raise Unsupported(f"the file does not describe {name!r}")
        return found

    def exponent(self, place: int) -> int:
        """Return the exponent of an input."""
        return self.tensor(self.node.inputs[place]).exponent

    @property
    def out(self) -> FileTensor:
        """What the file says of the first output."""
        return self.tensor(self.node.outputs[0])

    @property
    def align(self) -> int | None:
        """How its weights are packed."""
        return alignment(self.facts.name, self.node.width)

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute of the op."""
        return self.node.attributes.get(name, default)

    def stored(self, total: Tensor, exponent: Tensor | int, divisor: Tensor | int = 1) -> Tensor:
        """Shift a sum of an exponent into the first output, as wide as that is."""
        out = self.out
        if not out.is_integer:
            raise Unsupported(f"its output is {out.dtype}")
        shift = out.exponent - torch.as_tensor(exponent, dtype=torch.int64)
        return saturate(rescale(total, shift, self.facts.rounding, divisor), out.dtype)

    def count_overflows(self, total: Tensor) -> None:
        """Note the sums beyond the chip's accumulator; the channels are last.

        Where the vector unit's accumulators are narrow, the channels beyond a multiple of their
        count are summed one by one in a wide one, of 40 bits (dl/base/isa/tie728 of ESP-DL).
        """
        dtype = self.tensor(self.node.inputs[0]).dtype
        bits = self.facts.accumulator_bits[dtype]
        if bits >= 64:
            return
        limits = torch.full((total.shape[-1],), 1 << (bits - 1), dtype=torch.int64)
        if self.align is not None and bits < _WIDE:
            limits[len(limits) // self.align * self.align :] = 1 << (_WIDE - 1)
        self.overflows += int(((total >= limits) | (total < -limits)).sum())


Kernel = Callable[[Call], list[Tensor]]
KERNELS: dict[str, Kernel] = {}
"""By op type."""


def kernel(*op_types: str) -> Callable[[Kernel], Kernel]:
    """Register a kernel for op types."""

    def register(function: Kernel) -> Kernel:
        for op_type in op_types:
            KERNELS[op_type] = function
        return function

    return register
