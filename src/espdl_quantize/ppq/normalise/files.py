"""What is done to an ONNX file as a whole: refused, converted, and its open dimensions fixed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper, shape_inference, version_converter

from espdl_quantize.contract import InputSpec
from espdl_quantize.core import Finding, FindingKind
from espdl_quantize.ppq.normalise.graph import (
    dims_of,
    graph_inputs,
    names_read_by,
    opset_of,
    set_attribute,
)
from espdl_quantize.ppq.onnx_runs import Feeds, OnnxRun

OPSET = 18
"""The opset that esp_ppq.api.espdl_quantize_torch exports with, and that files are raised to."""

_ONNX = ("", "ai.onnx")

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

_QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
)


def refusals(model: Any, *, convert_half: bool) -> Iterator[Finding]:
    """Yield why a file is of no use as a float model.

    Args:
        model: an ONNX ``ModelProto``.
        convert_half: numbers of 16 bits may be converted.
    """
    quantized = [
        node
        for node in model.graph.node
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear")
    ]
    if quantized:
        first = quantized[0]
        yield Finding(
            FindingKind.FAULT,
            "already_quantized",
            f"op {first.name!r} ({first.op_type})",
            f"the file is quantized already: {len(quantized)} of its {len(model.graph.node)} ops "
            f"quantize or compute on integers, the first is {first.name!r} ({first.op_type})",
            "give the float model that it was made of: what is searched is how to quantize that",
            figures={"ops": len(quantized)},
        )
    # A file of mixed precision may hold them behind a Cast alone.
    halves = list(dict.fromkeys(name for name, _ in _halves(model)))
    if halves and not convert_half:
        yield Finding(
            FindingKind.FAULT,
            "half_precision",
            f"tensor {halves[0]!r}",
            f"the file has numbers of 16 bits (float16 or bfloat16): {len(halves)} constants, "
            f"tensors or casts, the first is {halves[0]!r}; esp-ppq computes in float32",
            'set QUANT_CONFIG["convert_fp16"] to True to have them converted, or export the model '
            "in float32",
            figures={"tensors": len(halves)},
        )


def widen(model: Any) -> list[str]:
    """Convert numbers of 16 bits to float32, everywhere; return what was converted."""
    changed = []
    for name, convert in list(_halves(model)):
        convert()
        changed.append(name)
    return changed


def _halves(model: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield each place that states or holds numbers of 16 bits, and what converts it."""
    for graph in _graphs(model.graph):
        for each in graph.initializer:
            if each.data_type in HALF:
                yield each.name, functools.partial(_widen_tensor, each)
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type
            if kind.elem_type in HALF:
                yield value.name, functools.partial(setattr, kind, "elem_type", TensorProto.FLOAT)
        yield from _halves_of_nodes(graph.node)
    for function in model.functions:
        yield from _halves_of_nodes(function.node)
        for node in function.node:
            for graph in _graphs_of(node):
                yield from _halves_of_nodes(graph.node)


def _halves_of_nodes(nodes: Sequence[Any]) -> Iterator[tuple[str, Callable[[], None]]]:
    for node in nodes:
        for attribute in node.attribute:
            name = node.name or node.output[0]
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in HALF:
                yield name, functools.partial(setattr, attribute, "i", TensorProto.FLOAT)
            elif attribute.HasField("t") and attribute.t.data_type in HALF:
                yield name, functools.partial(_widen_tensor, attribute.t)


def _widen_tensor(tensor: Any) -> None:
    wide = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        yield from _graphs_of(node)


def _graphs_of(node: Any) -> Iterator[Any]:
    """Yield the branches and bodies of a node, and theirs."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _graphs(attribute.g)
        for inner in attribute.graphs:
            yield from _graphs(inner)


def inlined(model: Any) -> Any:
    """Return the model with the bodies of its own functions in place of their calls."""
    return inliner.inline_local_functions(model) if model.functions else model


def raised(model: Any, inputs: Mapping[str, InputSpec]) -> Any:
    """Return the model in :data:`OPSET`, where it is written in an older one.

    Args:
        model: an ONNX ``ModelProto``; it may be changed.
        inputs: what is known of each input.

    Raises:
        Exception: ONNX's converter cannot.
    """
    before = opset_of(model)
    if before >= OPSET:
        return model
    resized = {
        node.output[0] for node in model.graph.node if node.op_type in ("Upsample", "Resize")
    }
    if before < _ONE_AXIS:
        _flatten_softmax(model, inputs)
    names = {node.output[0]: node.name for node in model.graph.node if node.output}
    model = version_converter.convert_version(model, OPSET)
    for node in model.graph.node:
        # What it writes as another op loses its name.
        node.name = node.name or names.get(node.output[0], "")
    if before < 11:
        # What these opsets compute, the newer ones name; the converter leaves it out.
        for node in model.graph.node:
            if node.op_type == "Resize" and node.output[0] in resized:
                set_attribute(node, "coordinate_transformation_mode", "asymmetric")
                set_attribute(node, "nearest_mode", "floor")
    return model


_ONE_AXIS = 13
"""The opset from which on a Softmax is taken along its axis alone, not along those behind it."""

_RESHAPE_INPUT = 5
"""The opset from which on a Reshape's shape is an input."""


def _flatten_softmax(model: Any, inputs: Mapping[str, InputSpec]) -> None:
    """Spell out that a Softmax of an old opset is one of the matrix that its axis makes.

    The converter does so, too, but its Reshape back holds the batch that the file states, and it
    fails where the file leaves the batch open. Here it takes what the rest leaves.

    Args:
        model: in an opset below :data:`_ONE_AXIS`; it is changed.
        inputs: what is known of each input.
    """
    kinds = ("Softmax", "LogSoftmax", "Hardmax")
    if not any(node.op_type in kinds and node.domain in _ONNX for node in model.graph.node):
        return
    shapes = _open_shapes(model, inputs)
    nodes: list[Any] = []
    for node in model.graph.node:
        own = onnx.NodeProto()
        own.CopyFrom(node)
        nodes.append(own)
        dims = shapes.get(own.input[0]) if own.op_type in kinds and own.domain in _ONNX else None
        if dims is None or dims.count(-1) > 1:
            continue
        stated = [each.i for each in own.attribute if each.name == "axis"]
        axis = stated[0] if stated else 1
        axis += len(dims) if axis < 0 else 0
        if not 0 < axis < len(dims) - 1:
            # Along the last axis both mean the same; along the first the batch is mixed.
            continue
        name, source, result = own.name or own.output[0], own.input[0], own.output[0]
        flat, done, target = f"{result}/flat", f"{result}/flat/of", f"{result}/shape"
        own.input[0], own.output[0] = flat, done
        set_attribute(own, "axis", 1)
        before = helper.make_node("Flatten", [source], [flat], f"{name}/flatten", axis=axis)
        if opset_of(model) < _RESHAPE_INPUT:
            after = helper.make_node("Reshape", [done], [result], f"{name}/reshape", shape=dims)
            nodes[-1:] = [before, own, after]
            continue
        # Files of old versions declare every initializer as an input; a node needs none.
        shape = numpy_helper.from_array(np.asarray(dims, np.int64), target)
        constant = helper.make_node("Constant", [], [target], target, value=shape)
        after = helper.make_node("Reshape", [done, target], [result], f"{name}/reshape")
        nodes[-1:] = [before, own, constant, after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _open_shapes(model: Any, inputs: Mapping[str, InputSpec]) -> dict[str, list[int]]:
    """Return the shapes of tensors with -1 for what depends on the batch, or is not known."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    fix_dimensions(opened, inputs)
    del opened.graph.value_info[:]
    for output in opened.graph.output:
        output.type.tensor_type.ClearField("shape")
    for value in graph_inputs(opened):
        dims, spec = dims_of(value), inputs.get(value.name)
        axis = 0 if spec is None else spec.axis
        if dims and axis is not None and axis < len(dims):
            value.type.tensor_type.shape.dim[axis].dim_param = "batch"
    shapes = {}
    inferred = shape_inference.infer_shapes(opened, data_prop=True).graph
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = dims_of(value)
        if dims is not None:
            shapes[value.name] = [size if isinstance(size, int) else -1 for size in dims]
    return shapes


def fix_dimensions(model: Any, inputs: Mapping[str, InputSpec]) -> list[str]:
    """Give open dimensions that are no batch the sizes of the contract; return the inputs.

    Sizes that the file states are left alone, also where the contract has others.

    Args:
        model: is changed.
        inputs: what is known of each input.
    """
    changed = []
    names: dict[str, int] = {}
    for value in graph_inputs(model):
        dims, spec = dims_of(value), inputs.get(value.name)
        if spec is None or dims is None or len(dims) != len(spec.batched(1)):
            continue
        for place, size in enumerate(spec.batched(1)):
            stated = dims[place]
            if place == spec.axis or (isinstance(stated, int) and stated):
                continue
            dim = value.type.tensor_type.shape.dim[place]
            if isinstance(stated, str):
                names[stated] = size
            dim.Clear()
            dim.dim_value = size
            changed.append(value.name)
    if changed:
        del model.graph.value_info[:]
        for output in model.graph.output:
            for dim in output.type.tensor_type.shape.dim:
                if dim.dim_param:
                    known = names.get(dim.dim_param)
                    dim.Clear()
                    if known is not None:
                        dim.dim_value = known
    return list(dict.fromkeys(changed))


def batch_size_of(model: Any, inputs: Mapping[str, InputSpec]) -> int | None:
    """Return the batch size that a file states; None where it is open.

    Args:
        model: an ONNX ``ModelProto``.
        inputs: what is known of each input.
    """
    for value in graph_inputs(model):
        dims, spec = dims_of(value), inputs.get(value.name)
        axis = 0 if spec is None else spec.axis
        if dims and axis is not None and axis < len(dims):
            size = dims[axis]
            return size if isinstance(size, int) and size > 0 else None
    return None


_SHAPE_INPUTS = {
    "Reshape": (1,),
    "Expand": (1,),
    "Slice": (1, 2, 3, 4),
    "Resize": (3,),
    "Tile": (1,),
    "Pad": (1,),
    "ConstantOfShape": (0,),
    "Gather": (1,),
    "Split": (1,),
    "Unsqueeze": (1,),
    "Squeeze": (1,),
    "TopK": (1,),
    "Range": (0, 1, 2),
}


_STATES = {"GRU": (5,), "LSTM": (5, 6)}
"""Inputs that are initial states, which exporters compute as zeros of the batch's size."""


def fold_shapes(model: Any, inputs: Mapping[str, InputSpec], feeds: Feeds) -> list[str]:
    """Compute shapes that the file computes of its inputs' shapes; return the nodes that read them.

    Each is computed for two batch sizes. Where both agree it is a constant; where one number of a
    Reshape is the batch it becomes -1, and that of an Expand 1, which keeps the input's. Initial
    states of zeros are left out. What depends on the batch in another way stays.

    Args:
        model: with an open batch.
        inputs: what is known of each input.
        feeds: a sample or more.
    """
    if batch_size_of(model, inputs) is not None or not any(
        node.op_type in ("Shape", "Size") for node in model.graph.node
    ):
        return []
    constants = {each.name for each in model.graph.initializer}
    constants |= {
        name for node in model.graph.node if node.op_type == "Constant" for name in node.output
    }
    made = {name for node in model.graph.node for name in node.output if name} - constants
    computed = _depending_on_shapes(model)
    wanted = {
        node.input[place]: TensorProto.INT64
        for node in model.graph.node
        for place in _SHAPE_INPUTS.get(node.op_type, ())
        if place < len(node.input) and node.input[place] in made & computed
    }
    states = {
        node.input[place]: TensorProto.FLOAT
        for node in model.graph.node
        for place in _STATES.get(node.op_type, ())
        if place < len(node.input) and node.input[place] in made & computed
    }
    if not wanted and not states:
        return []
    # A Reshape that takes what the rest leaves says by its output what that is.
    types = _element_types(model)
    whole = {
        node.output[0]: types.get(node.output[0], TensorProto.FLOAT)
        for node in model.graph.node
        if node.op_type == "Reshape" and node.input[1] in wanted
    }
    run = OnnxRun(model, {**wanted, **states, **whole})
    two, three = (run(feeds.take([0] * size)) for size in (2, 3))
    changed = []
    for node in model.graph.node:
        for place in _STATES.get(node.op_type, ()):
            name = node.input[place] if place < len(node.input) else ""
            if name in states and not two[name].any():
                # That is what it begins with where it has none.
                node.input[place] = ""
                changed.append(node.name or node.output[0])
        for place in _SHAPE_INPUTS.get(node.op_type, ()):
            if place >= len(node.input) or node.input[place] not in wanted:
                continue
            name = node.input[place]
            if node.op_type == "Reshape":
                shapes = [np.array(each[node.output[0]].shape) for each in (two, three)]
            else:
                shapes = [two[name], three[name]]
            value = _without_batch(node.op_type, *shapes)
            if value is None:
                continue
            # Two that read one shape may differ in what becomes of the batch.
            constant = f"{name}/folded/{len(constants)}"
            model.graph.initializer.append(numpy_helper.from_array(value, constant))
            constants.add(constant)
            node.input[place] = constant
            changed.append(node.name or node.output[0])
    _drop_unread(model)
    return changed


def _depending_on_shapes(model: Any) -> set[str]:
    """Return the tensors that are computed of shapes and constants alone."""
    free = {each.name for each in model.graph.initializer} | {""}
    for node in model.graph.node:
        has_graph = any(each.HasField("g") for each in node.attribute)
        if node.op_type in ("Shape", "Size") or (not has_graph and free.issuperset(node.input)):
            free.update(node.output)
    return free


def _element_types(model: Any) -> dict[str, int]:
    try:
        inferred = shape_inference.infer_shapes(model)
    except Exception:
        return {}
    graph = inferred.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: int(value.type.tensor_type.elem_type) for value in values}


def _without_batch(op_type: str, two: Any, three: Any) -> Any:
    if two.shape != three.shape:
        return None
    if np.array_equal(two, three):
        return two
    differs = two != three
    if op_type == "Reshape" and differs.sum() == 1 and not (two[~differs] < 0).any():
        # One -1 takes what the rest leaves.
        return np.where(differs, -1, two)
    is_batch = differs & (two == 2) & (three == 3)
    if op_type == "Expand" and np.array_equal(is_batch, differs):
        return np.where(differs, 1, two)
    return None


def _drop_unread(model: Any) -> None:
    """Drop nodes whose outputs nobody reads, one after the other."""
    outputs = {output.name for output in model.graph.output}
    while True:
        read = {name for node in model.graph.node for name in names_read_by(node)} | outputs
        kept = [node for node in model.graph.node if any(name in read for name in node.output)]
        if len(kept) == len(model.graph.node):
            return
        nodes = []
        for node in kept:
            own = onnx.NodeProto()
            own.CopyFrom(node)
            nodes.append(own)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
