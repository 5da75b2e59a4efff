"""Puts the fast engine's parts in the place of esp-ppq's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch

from espdl_quantize.ppq._fallback import (
    COLLECTING,
    FAKE_QUANTIZATION,
    PASS,
    TRAINING,
    Fallback,
    Restore,
)
from espdl_quantize.ppq._snapshot import state_of_graph, state_of_ops
from espdl_quantize.ppq._spill import is_spilling
from espdl_quantize.ppq.fast._fake_quant import fake_quantize
from espdl_quantize.ppq.fast._memory import (
    flush_denormals,
    give_back_freed_memory,
    keep_freed_memory,
    set_threads,
)
from espdl_quantize.ppq.fast.training import Collector, TqtTrainer
from espdl_quantize.ppq.patches import When, installed, override


@contextlib.contextmanager
def fast_engine(fallback: Fallback) -> Iterator[None]:
    """Within the block, executors quantize and observers count by kernels, and exports are fast.

    How the process allocates memory and treats tiny numbers changes for good.

    Args:
        fallback: guards every hook.
    """
    if not is_spilling():
        keep_freed_memory()
    flush_denormals()
    set_threads(torch.get_num_threads())
    with installed(When.FAST_ENGINE, fallback):
        yield


def idle_collector(original: Any, _: Fallback) -> Any:
    """Return a garbage collector that does nothing, where there is no GPU whose memory it frees.

    Python's own collector stays at work.
    """
    return original if torch.cuda.is_available() else SimpleNamespace(collect=lambda: 0)


def fake_quantization(original: Callable[..., Any], fallback: Fallback) -> Callable[..., Any]:
    """Return what quantizes a tensor by one kernel."""
    return fallback.guarded(
        FAKE_QUANTIZATION,
        fake_quantize,
        original,
        layer=lambda tensor, config: fallback.layer_of(config),
    )


_PER_BLOCK = ("finetune", "correct_bias")
"""The methods of esp-ppq's training passes that change one block."""


def speed_up_pass(optimization: Any, fallback: Fallback) -> None:
    """Make one pass of a pipeline fast, where there is something to gain; only this instance.

    Afterwards it gives back the memory that it freed.

    Args:
        optimization: the pass.
        fallback: guards it and its parts: a training is repeated block by block, not as a whole.
    """
    from esp_ppq.quantization.optim.training import TrainingBasedPass

    if isinstance(optimization, TrainingBasedPass):
        _speed_up_training(optimization, fallback)
    optimize = optimization.optimize

    def giving_back(*args: Any, **kwargs: Any) -> None:
        optimize(*args, **kwargs)
        give_back_freed_memory()

    def snapshot(graph: Any, executor: Any = None, **others: Any) -> Restore:
        kept = [one for one in (optimization, executor) if one is not None]
        return state_of_graph(graph, *kept).restore

    guarded = fallback.guarded(
        PASS, giving_back, optimize, lambda *_, **__: str(optimization.name), snapshot
    )
    override(optimization, "optimize", guarded)


def _speed_up_training(optimization: Any, fallback: Fallback) -> None:
    from esp_ppq.quantization.optim.training import TrainedQuantizationThresholdPass

    collector = Collector(optimization)

    def layer(block: Any, **others: Any) -> str:
        return collector.name_of(block)

    def before_collecting(graph: Any, executor: Any, **others: Any) -> Restore:
        # It changes states and which constants are in place, never a number of one.
        return state_of_graph(graph, executor, contents=False).restore

    def before_training(block: Any, executor: Any, **others: Any) -> Restore:
        return state_of_ops(block.rps, executor).restore

    def collect_plainly(*args: Any, **kwargs: Any) -> Any:
        collector.forget()
        return collect(*args, **kwargs)

    collect = optimization.collect
    override(optimization, "split_graph_into_blocks", collector.split_graph_into_blocks)
    collecting = fallback.guarded(
        COLLECTING, collector.collect, collect_plainly, layer, before_collecting
    )
    override(optimization, "collect", collecting)
    for name in _PER_BLOCK:
        if not hasattr(optimization, name):
            continue
        plain = fast = getattr(optimization, name)
        # No setting gives a pass another optimizer than Adam.
        if (
            isinstance(optimization, TrainedQuantizationThresholdPass)
            and name == "finetune"
            and optimization.optimizer is None
        ):
            fast = TqtTrainer(optimization).finetune
        guarded = fallback.guarded(TRAINING, fast, plain, layer, before_training)
        override(optimization, name, guarded)
