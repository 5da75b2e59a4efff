"""Whether a file computes a batch as it computes its samples one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from espdl_quantize.contract import InputSpec
from espdl_quantize.ppq.normalise.graph import dims_of, graph_inputs
from espdl_quantize.ppq.onnx_runs import FLOOR, Feeds, OnnxRun, relative_error

OF_SHAPES = frozenset({"Shape", "Size", "ConstantOfShape", "Range", "NonZero", "Expand", "Where"})
"""Ops by which a file computes shapes."""


def takes_batches(model: Any, inputs: Mapping[str, InputSpec], feeds: Feeds) -> bool:
    """Tell whether two samples at once give what each gives alone.

    A file that was traced at a batch of one may have that number in a Reshape, which then takes
    the samples for something else: a longer sequence, or more features.

    Args:
        model: an ONNX ``ModelProto``, whose stated batch size is not minded.
        inputs: what is known of each input.
        feeds: two samples.

    Raises:
        Exception: onnxruntime cannot run it on one sample.
    """
    run = OnnxRun(opened(model, inputs))
    alone = [run(feeds.take([place])) for place in (0, 1)]
    try:
        together = run(feeds.take([0, 1]))
    except Exception:
        return False
    return all(
        _is_joined(value, alone[0][name], alone[1][name]) for name, value in together.items()
    )


def opened(model: Any, inputs: Mapping[str, InputSpec]) -> Any:
    """Return a copy of a model that states no batch size."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in graph_inputs(copy):
        dims, spec = dims_of(value), inputs.get(value.name)
        axis = 0 if spec is None else spec.axis
        if dims and axis is not None and axis < len(dims):
            value.type.tensor_type.shape.dim[axis].dim_param = "batch"
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    return copy


def computes_shapes(model: Any) -> bool:
    """Tell whether a file computes shapes, which no chip does."""
    return any(node.op_type in OF_SHAPES for node in model.graph.node)


def _is_joined(together: Any, first: Any, second: Any) -> bool:
    """Tell whether two samples' output is their own outputs, joined along some axis."""
    if together.shape == first.shape:
        # It is one for all samples.
        return relative_error(together, first) <= FLOOR
    if together.ndim != first.ndim:
        return False
    # One sample has a size of 1 along the axis of the batch, or rows of its own in front.
    axes = [axis for axis in range(first.ndim) if axis == 0 or first.shape[axis] == 1]
    joined = (np.concatenate([first, second], axis=axis) for axis in axes)
    return any(
        each.shape == together.shape and relative_error(together, each) <= FLOOR for each in joined
    )
