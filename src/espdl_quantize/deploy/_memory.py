"""How much memory and flash a model surely needs."""

from __future__ import annotations

import math

from espdl_quantize.chip import ChipModel, Node, Tensor

_BYTES = {
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}
_NOT_IN_PLACE = frozenset({"Conv", "Gemm", "MatMul", "Concat", "MaxPool", "AveragePool", "Resize"})


def least_activations(model: ChipModel) -> int:
    """Return the bytes of activations that are alive at once, at least.

    It is the largest op's inputs and outputs; one output may lie where an input was, unless the op
    is known to need both. ESP-DL's planner needs more: tensors wait for later ops, and the free
    memory has gaps.
    """
    return max((_of_node(model, node) for node in model.nodes), default=0)


def parameter_bytes(model: ChipModel) -> int:
    """Return the bytes of weights, biases and tables, which ESP-DL copies into RAM by default."""
    return sum(_size(tensor) for tensor in model.constants.values())


def _of_node(model: ChipModel, node: Node) -> int:
    inputs = {name for name in node.inputs if name in model.values}
    outputs = {name for name in node.outputs if name in model.values}
    read = [_size(model.values[name]) for name in inputs]
    written = sum(_size(model.values[name]) for name in outputs - inputs)
    if node.op_type in _NOT_IN_PLACE:
        return sum(read) + written
    return sum(read) + max(0, written - max(read, default=0))


def _size(tensor: Tensor) -> int:
    count = math.prod(tensor.shape or (1,)) * _BYTES[tensor.dtype]
    # Tensors are aligned to 16 bytes.
    return -(-count // 16) * 16
