"""What an .espdl file holds, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Width = Literal["S8", "S16", "W8A16", "F32"]
"""What esp-ppq's exporter writes into ``quant_type``; it chooses the kernel on the chip."""


@dataclass(frozen=True)
class Tensor:
    """A constant or an activation.

    Attributes:
        name: its name in the file.
        dtype: "int8", "int16", "int32", "int64", "float32", "float64" or "bool".
        shape: of one sample, in the order that the chip keeps it in; None where the file has none.
        exponents: the value is the integer times two to the power of the exponent; one for the
            whole tensor, or one per output channel.
        data: a flat array of a constant's numbers as they are packed; None for an activation.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    exponents: tuple[int, ...]
    data: Any = None

    @property
    def is_integer(self) -> bool:
        """Whether a quantized kernel reads it."""
        return self.dtype in ("int8", "int16")

    @property
    def exponent(self) -> int:
        """The one exponent of an activation."""
        return self.exponents[0] if self.exponents else 0


@dataclass(frozen=True)
class Node:
    """One call of a kernel.

    Attributes:
        name: that of the op in the quantized graph, or one that the exporter made up.
        op_type: which kernel.
        inputs: names of tensors; an empty name stands for an input that is left out.
        outputs: names of tensors.
        attributes: by name; lists of numbers are tuples.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def width(self) -> str:
        """Return ``quant_type``, "F32" where there is none."""
        return str(self.attributes.get("quant_type", "F32"))


@dataclass(frozen=True)
class ChipModel:
    """A whole file.

    Attributes:
        nodes: in the order in which the chip runs them.
        constants: weights, biases, lookup tables and other parameters, by name.
        values: activations, by name.
        inputs: names of the model's inputs.
        outputs: names of the model's outputs.
        test_inputs: a recorded value of each input, by name; empty where the file has none.
        test_outputs: what the model gives for them.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    test_inputs: Mapping[str, Tensor] = field(default_factory=dict)
    test_outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def tensor(self, name: str) -> Tensor | None:
        """Return the constant or activation of a name."""
        return self.constants.get(name) or self.values.get(name)
