"""Graphs without their numbers: those of published models, and small ones made by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from espdl_quantize.chip._model import ChipModel, Node, Tensor

_FILE = Path(__file__).parent / "recorded" / "graphs.json.gz"
PUBLISHED: dict[str, Any] = json.loads(gzip.decompress(_FILE.read_bytes()))
"""Ops, shapes and types of the models that Espressif ships for the ESP32-P4; numbers for names."""


def published(name: str) -> ChipModel:
    """Return the graph of a published model, as far as its memory goes."""
    held = PUBLISHED[name]
    nodes = tuple(
        Node(f"op {number}", op_type, tuple(inputs), tuple(outputs), {})
        for number, (op_type, inputs, outputs) in enumerate(held["nodes"])
    )
    values = {
        key: Tensor(key, dtype, tuple(shape), ()) for key, (dtype, shape) in held["values"].items()
    }
    constants = {key: Tensor(key, "int8", (1,), ()) for key in held["constants"]}
    return ChipModel(nodes, constants, values, tuple(held["inputs"]), tuple(held["outputs"]))


def graph(
    ops: list[tuple[str, list[str], list[str]]],
    sizes: dict[str, int],
    inputs: list[str],
    outputs: list[str],
) -> ChipModel:
    """Return a graph of int8 activations of so many bytes; what has no size is a constant."""
    nodes = tuple(
        Node(f"{op_type} {number}", op_type, tuple(read), tuple(written), {"quant_type": "S8"})
        for number, (op_type, read, written) in enumerate(ops)
    )
    values = {name: Tensor(name, "int8", (size,), (0,)) for name, size in sizes.items()}
    names = {name for node in nodes for name in node.inputs} - set(sizes)
    constants = {name: Tensor(name, "int8", (1,), (0,)) for name in names}
    return ChipModel(nodes, constants, values, tuple(inputs), tuple(outputs))
