"""Runs the graph that an evaluation is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def forward(graph: Any, batches: Iterable[Any], *, device: str = "cpu") -> Iterator[list[Tensor]]:
    """Run the graph that evaluate() is given, float or quantized, on batch after batch.

    ::

        def evaluate(graph):
            right = total = 0
            for (logits,), labels in zip(eq.forward(graph, images), labels):
                right += (logits.argmax(1) == labels).sum().item()
                total += len(labels)
            return 100 * right / total

    Args:
        graph: what evaluate() received.
        batches: of each the inputs: a tensor ``[batch, ...]``, a list of them in the order of the
            graph's inputs, or a dict by input name.
        device: of the search.

    Yields:
        The outputs of each batch, in the order of the graph's outputs.

    Raises:
        TypeError: a batch is none.
    """
    from espdl_quantize.contract import Batch
    from espdl_quantize.ppq import forwards

    yield from forwards(graph, map(Batch.of, batches), device)
