"""What a graph must have at its ends: inputs that are read, tensors that one op writes, outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from espdl_quantize.core import Finding, FindingKind
from espdl_quantize.ppq.normalise.graph import graph_inputs, names_read_by

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Whose ops onnxruntime has, and so a reference for what they compute."""


def unsound(model: Any) -> Iterator[Finding]:
    """Yield what is wrong with a file as a graph, of which a reader would blame some op.

    Args:
        model: an ONNX ``ModelProto``.
    """
    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in own:
            yield _fault(
                "foreign_op",
                f"op {node.name!r} ({node.op_type})",
                f"op {node.name or node.output[0]!r} is the {node.op_type} of {node.domain!r}, of "
                "which nothing says what it computes: the file has no function of that name",
                "export it by ONNX's own ops, or as a function of the file",
            )
    yield from _of_tensors(model)


def _of_tensors(model: Any) -> Iterator[Finding]:
    graph = model.graph
    given = {each.name for each in (*graph.input, *graph.initializer)}
    given |= {each.values.name for each in graph.sparse_initializer}
    written = Counter(name for node in graph.node for name in node.output if name)
    for name, count in written.items():
        if count > 1 or name in given:
            yield _fault(
                "written_twice",
                f"tensor {name!r}",
                f"tensor {name!r} has {count + (name in given)} sources, and ONNX allows one",
                "give every op's output a name of its own; onnx.checker.check_model names others",
            )
    for node in graph.node:
        for name in node.input:
            if name and name not in given and name not in written:
                yield _fault(
                    "written_never",
                    f"op {node.name!r} ({node.op_type})",
                    f"op {node.name or node.output[0]!r} ({node.op_type}) reads {name!r}, which is "
                    "no input, no constant and no output of an op",
                    "export the file again: a constant or an op was lost in it",
                )
    for output in graph.output:
        if output.name not in given and output.name not in written:
            yield _fault(
                "written_never",
                f"output {output.name!r}",
                f"no op writes the output {output.name!r}",
                "export the file again: an op was lost in it, or the output was renamed alone",
            )
    if not graph.output:
        yield _fault(
            "no_output",
            "the model",
            "the file declares no output",
            "export it again, or declare the tensors that are read from it as its outputs",
        )


def unfit(model: Any) -> Iterator[Finding]:
    """Yield inputs and outputs with which esp-ppq makes no graph.

    Args:
        model: an ONNX ``ModelProto`` that is rewritten for esp-ppq.
    """
    graph = model.graph
    inputs = [each.name for each in graph_inputs(model)]
    read = {name for node in graph.node for name in names_read_by(node)}
    outputs = [each.name for each in graph.output]
    for name in inputs:
        if name not in read:
            yield _fault(
                "unread_input",
                f"input {name!r}",
                f"no op reads the input {name!r}"
                + (", it is an output as it is" if name in outputs else ""),
                "export the model without it, and leave it out of input_shape and of the batches",
            )
    depends = set(inputs)
    for node in graph.node:
        if not depends.isdisjoint(names_read_by(node)):
            depends.update(node.output)
    for name in dict.fromkeys(outputs):
        if name in depends and name not in inputs:
            continue
        what = "the input of that name" if name in inputs else "a constant: it depends on no input"
        yield _fault(
            "no_output_of_an_op",
            f"output {name!r}",
            f"output {name!r} is {what}, and esp-ppq knows outputs of ops alone",
            "leave it out of the model's outputs: the program on the chip has it already",
        )
    for name, count in Counter(outputs).items():
        if count > 1:
            yield _fault(
                "output_twice",
                f"output {name!r}",
                f"output {name!r} is declared {count} times, and esp-ppq has each tensor once",
                "declare it once, and read it twice in evaluate() and on the chip",
            )


def densified(model: Any) -> tuple[Any, list[str]]:
    """Write sparse constants out, which esp-ppq's parser does not know; return which.

    Args:
        model: an ONNX ``ModelProto``; it is changed.
    """
    graph, changed = model.graph, []
    for sparse in graph.sparse_initializer:
        graph.initializer.append(numpy_helper.from_array(_dense(sparse), sparse.values.name))
        changed.append(sparse.values.name)
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                value = numpy_helper.from_array(_dense(attribute.sparse_tensor), node.output[0])
                attribute.CopyFrom(onnx.helper.make_attribute("value", value))
                changed.append(node.output[0])
    return model, changed


def _dense(sparse: Any) -> np.ndarray[Any, Any]:
    values, places = (numpy_helper.to_array(each) for each in (sparse.values, sparse.indices))
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        dense.reshape(-1)[places] = values
    else:
        dense[tuple(places.T)] = values
    return dense


def _fault(code: str, subject: str, message: str, hint: str) -> Finding:
    return Finding(FindingKind.FAULT, code, subject, message, hint)
