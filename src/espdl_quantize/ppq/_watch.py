"""Sees what an evaluation puts through a graph, and what comes out, without asking it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
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


def sample_digests(inputs: Sequence[Any]) -> list[bytes]:
    """Return one digest per sample of a batch, of the content of all its inputs.

    Args:
        inputs: tensors [samples, ...] with equal first dimensions; they are taken as float32.

    Returns:
        Nothing where the first dimensions differ.
    """
    import torch

    arrays = [
        tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        for tensor in inputs
        if isinstance(tensor, torch.Tensor) and tensor.dim() > 0
    ]
    sizes = {len(array) for array in arrays}
    if len(sizes) != 1:
        return []
    found = []
    for sample in zip(*arrays, strict=True):
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for array in sample:
            # An input of one number per sample yields numbers, not arrays.
            digest.update(array.tobytes())
        found.append(digest.digest())
    return found


def batch_digests(batch: Batch, graph_inputs: Sequence[str]) -> list[bytes]:
    """Return the digests of one calibration batch, its inputs in the order of a graph's."""
    return sample_digests(list(batch.by_name(graph_inputs).values()))


def _as_list(inputs: Any, names: list[str]) -> list[Any]:
    """Return the inputs in the order of the graph's."""
    if isinstance(inputs, dict):
        ordered = [inputs[name] for name in names if name in inputs]
        return ordered if len(ordered) == len(inputs) else list(inputs.values())
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
