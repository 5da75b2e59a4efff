"""Graphs that esp-ppq takes and then fails on without saying where."""

from __future__ import annotations

from typing import Any

from espdl_quantize.core import IterationError

_NUMBER_OF_INPUTS = {"GRU": 6, "LSTM": 7}
"""Inputs of a recurrent op up to its last initial state (ONNX operator schemas, opset 14)."""


def reject_unsupported(graph: Any) -> None:
    """Name the ops that esp-ppq cannot quantize although its executor runs them.

    Its alignment pass reads the initial state of every GRU and LSTM by position.

    Raises:
        IterationError: a recurrent op has no initial state.
    """
    for op in graph.operations.values():
        if op.num_of_input < _NUMBER_OF_INPUTS.get(op.type, 0):
            raise IterationError(
                f"esp-ppq cannot quantize op {op.name!r} ({op.type}): it has no initial state",
                "pass one that depends on the input, so that it has the input's batch size, e.g. "
                "zeros = (x[:, 0, :hidden] * 0).unsqueeze(0)",
            )
