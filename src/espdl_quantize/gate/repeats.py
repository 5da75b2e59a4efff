"""Calls an evaluation again: is it the same one, and what does it say of a worse model?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from espdl_quantize.contract import Contract
from espdl_quantize.iteration import Watcher
from espdl_quantize.ppq import seed_everything, watched

PREFIX = 64
"""Samples after which a slow evaluation that is called again is left."""


class _Enough(BaseException):
    """Leaves an evaluation: it is no Exception, which the contract's code might catch."""


@dataclass
class Repeat:
    """One more call of an evaluation.

    Attributes:
        digests: of the samples, in their order.
        value: of the primary metric; None where it was left early, or failed.
        failure: why it failed.
        is_whole: whether it came to its end.
        seconds: that it took.
    """

    digests: list[bytes] = field(default_factory=list)
    value: float | None = None
    failure: str = ""
    is_whole: bool = False
    seconds: float = 0.0


def call_again(
    contract: Contract,
    used: str,
    graph: Any,
    *,
    seed: int,
    axes: Sequence[int | None] | None = None,
    whole: bool = True,
    on_samples: Callable[[int], None] | None = None,
) -> Repeat:
    """Score a graph once more by one of the contract's functions.

    Args:
        contract: whose function scores.
        used: its name.
        graph: what is scored.
        seed: of every random generator, as in every iteration.
        axes: of each input of the graph, the axis that holds the samples.
        on_samples: notified of the samples that were scored so far.
        whole: let it come to its end; it is left after PREFIX samples otherwise.
    """
    watcher = Watcher(axes)
    repeat = Repeat(watcher.digests)

    def see(inputs: list[Any], outputs: list[Any] | None) -> None:
        watcher(inputs, outputs)
        if on_samples is not None:
            on_samples(len(repeat.digests))
        if not whole and len(repeat.digests) >= PREFIX:
            raise _Enough

    seed_everything(seed)
    started = time.perf_counter()
    try:
        with watched(graph, see):
            returned = contract.call(used, graph)
        value = returned[contract.config.primary_metric]
        repeat.value = float(value.item() if hasattr(value, "item") else value)
        repeat.is_whole = True
    except _Enough:
        pass
    except Exception as error:
        # A worse model may leave nothing to score.
        repeat.failure = f"{type(error).__name__}: {error}"
    repeat.seconds = time.perf_counter() - started
    return repeat
