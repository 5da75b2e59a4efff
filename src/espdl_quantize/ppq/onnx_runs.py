"""Runs ONNX models in onnxruntime: the reference for what a file computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from espdl_quantize.contract import Batch

Arrays = dict[str, Any]

FLOOR = 1e-3
"""Root mean square below which an output is compared absolutely: an output of zeros, or of what
rounding leaves of a difference, has no scale of its own."""

_TYPES = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
    onnx.TensorProto.FLOAT16: np.float16,
    onnx.TensorProto.INT64: np.int64,
    onnx.TensorProto.INT32: np.int32,
    onnx.TensorProto.INT16: np.int16,
    onnx.TensorProto.INT8: np.int8,
    onnx.TensorProto.UINT8: np.uint8,
    onnx.TensorProto.BOOL: np.bool_,
}


class Feeds:
    """Some samples, as onnxruntime takes them.

    Args:
        arrays: by the names of a model's inputs.
        axes: of each, the axis that holds the samples; None for one that is the same for all.

    Attributes:
        count: how many samples there are.
    """

    def __init__(self, arrays: Arrays, axes: Mapping[str, int | None] | None = None) -> None:
        self._arrays, self._axes = arrays, axes or dict.fromkeys(arrays, 0)
        sizes = (
            value.shape[axis]
            for name, value in arrays.items()
            if (axis := self._axes[name]) is not None
        )
        self.count = int(next(sizes, 1))

    @classmethod
    def of(cls, batch: Batch, inputs: Sequence[str], count: int | None = None) -> Feeds:
        """Return the samples of a batch under the names of a model's inputs.

        Args:
            batch: matched by its names where it has those of the inputs, else by their order.
            inputs: of the model, in its order.
            count: of samples; of a smaller batch they are taken again. None for all.
        """
        size = batch.sample_count
        if count is not None and count != size:
            batch = batch.take([place % size for place in range(count)])
        if batch.names is None or not set(inputs) <= set(batch.names):
            batch = replace(batch, names=None)
            pairs = zip(inputs, batch.tensors, strict=False)
            tensors, axes = dict(pairs), dict(zip(inputs, batch.sample_axes, strict=False))
        else:
            tensors = batch.by_name(inputs)
            axes = dict(zip(tensors, batch.axes_by_name(inputs), strict=True))
        arrays = {name: each.detach().cpu().numpy() for name, each in tensors.items()}
        return cls(arrays, axes)

    def take(self, places: Sequence[int]) -> Arrays:
        """Return the samples at some places, by input."""
        return {
            name: value if (axis := self._axes[name]) is None else value.take(places, axis=axis)
            for name, value in self._arrays.items()
        }

    def all(self) -> Arrays:
        """Return all samples, by input."""
        return self._arrays

    def first(self) -> Feeds:
        """Return the first sample alone."""
        return Feeds(self.take([0]), self._axes)


class OnnxRun:
    """A model in onnxruntime, without its optimizations.

    Args:
        model: an ONNX ``ModelProto``.
        expose: names of intermediate tensors to return as well; a dict's values are their types.

    Raises:
        Exception: onnxruntime cannot load it.
    """

    def __init__(self, model: Any, expose: Mapping[str, int] | None = None) -> None:
        import onnxruntime

        if expose:
            model = _exposing(model, expose)
        model = _uniquely_named(model)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        # Its threads would spin beside torch's.
        options.intra_op_num_threads, options.inter_op_num_threads = _threads(), 1
        self._types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each.name for each in self._session.get_inputs()]
        self.outputs = [each.name for each in self._session.get_outputs()]

    def __call__(self, feeds: Mapping[str, Any]) -> Arrays:
        """Return the outputs by name.

        Args:
            feeds: arrays by input; they are cast to the types that the model declares.
        """
        own: Arrays = {
            name: np.asarray(feeds[name]).astype(_TYPES.get(self._types[name], np.float32))
            for name in self.inputs
        }
        return dict(zip(self.outputs, self._session.run(None, own), strict=True))


def mixes_samples(run: OnnxRun, feeds: Feeds) -> bool:
    """Tell whether a model with an open batch fails on two samples, or gives them other outputs.

    Such a file has a batch of one written into it, by a Reshape or the sizes of a Resize.

    Args:
        run: the model.
        feeds: two samples or more.
    """
    try:
        together = run(feeds.take([0, 1]))
    except Exception:
        return True
    alone = run(feeds.take([0]))
    return any(
        value.shape[:1] != (2,) or relative_error(value[:1], alone[name]) > FLOOR
        for name, value in together.items()
    )


def relative_error(value: Any, reference: Any) -> float:
    """Return the norm of a difference over the norm of the reference.

    The reference's norm is at least that of an output whose root mean square is :data:`FLOOR`.
    Numbers that are infinite alike, or not numbers at the same places, do not differ. Of integers
    and conditions it is the share that differs.

    Args:
        value: an array.
        reference: an array; another shape counts as infinitely far.
    """
    ours, theirs = np.asarray(value), np.asarray(reference)
    if ours.shape != theirs.shape:
        return float("inf")
    if ours.size == 0:
        return 0.0
    if theirs.dtype.kind not in "fc":
        return float(np.mean(ours.astype(np.float64) != theirs.astype(np.float64)))
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(theirs)
    if not np.array_equal(finite, np.isfinite(ours)):
        return float("inf")
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    ours, theirs = ours[finite], theirs[finite]
    # Squares of large floats leave the range of float64.
    scale = max(float(np.abs(ours).max()), float(np.abs(theirs).max()), FLOOR)
    difference = float(np.linalg.norm(ours / scale - theirs / scale))
    floor = FLOOR / scale * float(np.sqrt(theirs.size))
    return difference / max(float(np.linalg.norm(theirs / scale)), floor)


def largest_error(values: Sequence[Any], references: Sequence[Any]) -> float:
    """Return the largest relative error of some outputs; infinite where their number differs."""
    if len(values) != len(references):
        return float("inf")
    pairs = zip(values, references, strict=True)
    return max((relative_error(value, reference) for value, reference in pairs), default=0.0)


def _uniquely_named(model: Any) -> Any:
    """Return a model in which no two ops have one name, which onnxruntime refuses."""
    names = [node.name for node in model.graph.node if node.name]
    if len(set(names)) == len(names):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        node.name = ""
    return copy


def _exposing(model: Any, expose: Mapping[str, int]) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outputs = {output.name for output in copy.graph.output}
    for name, element_type in expose.items():
        if name not in outputs:
            copy.graph.output.append(helper.make_tensor_value_info(name, element_type, None))
    return copy


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())
