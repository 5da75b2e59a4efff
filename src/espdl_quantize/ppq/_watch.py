"""Sees what an evaluation puts through a graph, and what comes out, without asking it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from espdl_quantize.contract import Batch
from espdl_quantize.ppq.patches import When, installed

DIGEST_BYTES = 16

OnRun = Callable[[list[Any], list[Any] | None], None]
"""Given the inputs of one forward, and its outputs where they are the graph's."""


@contextlib.contextmanager
def watched(graph: Any, on_run: OnRun) -> Iterator[None]:
    """Tell ``on_run`` of every forward of a graph through an esp-ppq executor within the block.

    A copy of the graph counts as the graph: what has the same outputs is taken for it. An
    evaluation that runs the graph by other means is not seen.

    Args:
        graph: an esp-ppq graph.
        on_run: what it raises comes out of the forward.
    """
    with installed(When.EVALUATION, graph, on_run):
        yield


def watching(original: Callable[..., Any], graph: Any, on_run: OnRun) -> Callable[..., Any]:
    """Return a forward that does as an executor's, and tells of it."""
    names = list(getattr(graph, "outputs", ()))

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        results = original(self, *args, **kwargs)
        graph_run = getattr(self, "_graph", graph)
        if graph_run is graph or list(graph_run.outputs) == names:
            inputs = args[0] if args else kwargs.get("inputs")
            asked = args[1] if len(args) > 1 else kwargs.get("output_names")
            is_whole = asked is None or list(asked) == names
            on_run(_as_list(inputs, list(graph_run.inputs)), list(results) if is_whole else None)
        return results

    return forward


def sample_digests(inputs: Sequence[Any], axes: Sequence[int | None] | None = None) -> list[bytes]:
    """Return one digest per sample of a batch, of the content of all its inputs.

    Args:
        inputs: tensors that hold equally many samples; they are taken as float32.
        axes: of each, where the samples lie; None for one that is the same for all. Without any,
            all have them first.

    Returns:
        Nothing where the numbers of samples differ.
    """
    rows = sample_rows(inputs, axes)
    return [content_digest(sample) for sample in zip(*rows, strict=True)]


def sample_rows(
    inputs: Sequence[Any], axes: Sequence[int | None] | None = None
) -> list[list[bytes]]:
    """Return the content of each sample, as float32, by input; nothing where numbers differ."""
    import torch

    if axes is None or len(axes) != len(inputs):
        axes = [0] * len(inputs)
    arrays = [
        (tensor.detach().to("cpu", torch.float32), axis)
        for tensor, axis in zip(inputs, axes, strict=True)
        if isinstance(tensor, torch.Tensor) and (axis is None or tensor.dim() > axis)
    ]
    sizes = {tensor.shape[axis] for tensor, axis in arrays if axis is not None}
    if len(sizes) != 1:
        return []
    count = sizes.pop()
    return [
        [tensor.contiguous().numpy().tobytes()] * count
        if axis is None
        else [row.tobytes() for row in tensor.movedim(axis, 0).contiguous().numpy()]
        for tensor, axis in arrays
    ]


def content_digest(parts: Iterable[bytes]) -> bytes:
    """Return the digest of the content of one sample's inputs."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def batch_digests(batch: Batch, graph_inputs: Sequence[str]) -> list[bytes]:
    """Return the digests of one calibration batch, its inputs in the order of a graph's."""
    inputs = list(batch.by_name(graph_inputs).values())
    return sample_digests(inputs, batch.axes_by_name(graph_inputs))


def _as_list(inputs: Any, names: list[str]) -> list[Any]:
    """Return the inputs in the order of the graph's."""
    if isinstance(inputs, dict):
        ordered = [inputs[name] for name in names if name in inputs]
        return ordered if len(ordered) == len(inputs) else list(inputs.values())
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
