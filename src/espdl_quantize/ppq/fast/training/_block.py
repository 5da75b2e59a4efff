"""Runs the ops of one block with the scales that are being trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from espdl_quantize.ppq.fast._runner import OpError, OpRunner, inputs_of, store
from espdl_quantize.ppq.fast.training._scales import Scales
from espdl_quantize.ppq.fast.training._units import find_units


class BlockRunner:
    """Runs a block, op by op or several at once.

    Args:
        block: an esp-ppq ``TrainableBlock``.
        device: "cpu" or "cuda".
        scales: those that are being trained.
    """

    def __init__(self, block: Any, device: str, scales: Scales) -> None:
        self.device = device
        self._runner = OpRunner(device, scales)
        self._ops = list(block.rps)
        kept = {variable.name for variable in block.ep.outputs}
        units = find_units(self._ops, kept, scales) if device == "cpu" else []
        # A unit runs where its convolution stands: nothing else reads what is between its ops.
        self._units = {op.name: unit for unit in units for op in unit.ops[:1]}
        self._covered = {op.name for unit in units for op in unit.ops[1:]}

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the values of all variables of the block.

        Raises:
            RuntimeError: an op fails; it is named.
        """
        values = {name: value.to(self.device) for name, value in inputs.items()}
        for op in self._ops:
            unit = self._units.get(op.name)
            if op.name in self._covered:
                continue
            try:
                done = unit is not None and unit.run(values)
            except Exception as error:
                raise OpError(op) from error
            if done:
                continue
            for each in (op,) if unit is None else unit.ops:
                store(each, self._runner.run(each, inputs_of(each, values)), values)
        return values

    def work(self, inputs: dict[str, Tensor]) -> int:
        """Return about how many multiplications of two numbers the block takes."""
        with torch.no_grad():
            values = self.run(inputs)
        found = 0
        for op in self._ops:
            # Of a convolution that is run with its activation, only what comes out of that is kept.
            unit = self._units.get(op.name)
            output = values[(op if unit is None else unit.ops[-1]).outputs[0].name]
            constants = [one.value for one in op.inputs[1:2] if one.is_parameter]
            if op.is_computing_op:
                found += output.numel() * sum(one[0].numel() for one in constants)
        return found
