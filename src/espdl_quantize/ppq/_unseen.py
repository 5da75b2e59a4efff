"""Tells whether an evaluation looks at a graph where no forward of the graph is seen.

An evaluation may export the graph and run it elsewhere, so that unseen is not unused. Two things
are certain: what never reads the graph cannot have run it, and what scores the same with other
weights does not run them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from espdl_quantize.ppq.patches import When, installed

_SEED = 0


@dataclass
class Reads:
    """Whether anything read an attribute of a graph; None where that cannot be told."""

    any: bool | None = False


@contextlib.contextmanager
def reads_of(graph: Any) -> Iterator[Reads]:
    """Notice whether anything reads an attribute of an esp-ppq graph within the block.

    Copying, pickling and exporting read; so does an executor when it is made. What is no graph of
    esp-ppq is not watched.
    """
    from esp_ppq.IR import BaseGraph

    reads = Reads()
    if not isinstance(graph, BaseGraph):
        reads.any = None
        yield reads
        return
    with contextlib.ExitStack() as stack:
        # Once is enough, and an executor reads often.
        stack.enter_context(installed(When.READING, graph, reads, stack.close))
        yield reads


def noticing(
    original: Callable[[Any, str], Any], graph: Any, reads: Reads, stop: Callable[[], None]
) -> Callable[[Any, str], Any]:
    """Return a way to read an attribute that notices the first time that one of a graph is."""

    def read(self: Any, name: str) -> Any:
        if self is graph and not reads.any:
            reads.any = True
            stop()
        return original(self, name)

    return read


def scrambled(graph: Any) -> Iterator[Any]:
    """Yield copies of a graph that compute something else: all weights zero, then all random.

    The graph itself is left as it is: an evaluation that keeps what it made of a graph, and knows
    that by its identity, does not take a copy for it.
    """
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    for scale in (0.0, 1.0):
        copy = graph.copy()
        for variable in copy.variables.values():
            value = variable.value
            if not variable.is_parameter or not isinstance(value, torch.Tensor):
                continue
            if value.is_floating_point() and value.numel():
                noise = torch.randn(value.shape, generator=generator)
                variable.value = noise.to(value.device, value.dtype) * scale * value.abs().mean()
        yield copy


def with_noise(graph: Any, scale: float = 1.0) -> Any:
    """Return a copy of a graph with noise in its weights, which decides by chance.

    Args:
        graph: an esp-ppq graph, which stays as it is.
        scale: of the noise, in standard deviations of each parameter.
    """
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    copy = graph.copy()
    for variable in copy.variables.values():
        value = variable.value
        if not variable.is_parameter or not isinstance(value, torch.Tensor):
            continue
        if value.is_floating_point() and value.numel() > 1:
            noise = torch.randn(value.shape, generator=generator).to(value.device, value.dtype)
            variable.value = value + scale * value.std() * noise
    return copy
