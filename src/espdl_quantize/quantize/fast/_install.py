"""Puts the fast engine's parts in the place of esp-ppq's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from espdl_quantize.quantize._spill import is_spilling
from espdl_quantize.quantize.fast._executor import fast_forward
from espdl_quantize.quantize.fast._fake_quant import fake_quantize
from espdl_quantize.quantize.fast._info import fast_info
from espdl_quantize.quantize.fast._memory import (
    flush_denormals,
    give_back_freed_memory,
    keep_freed_memory,
    set_threads,
)
from espdl_quantize.quantize.fast._observers import fast_observers
from espdl_quantize.quantize.fast._pack import fast_packing
from espdl_quantize.quantize.fast.training import Collector, TqtTrainer


@contextlib.contextmanager
def fast_engine() -> Iterator[None]:
    """Within the block, executors quantize and observers count by kernels, and exports are fast.

    How the process allocates memory and treats tiny numbers changes for good.
    """
    from esp_ppq.core import defs
    from esp_ppq.executor import torch as executor

    if not is_spilling():
        keep_freed_memory()
    flush_denormals()
    set_threads(torch.get_num_threads())
    collector = defs.gc
    if not torch.cuda.is_available():
        # esp-ppq collects garbage before many of its functions, which frees memory of a GPU alone;
        # Python's own collector stays at work.
        defs.gc = SimpleNamespace(collect=lambda: 0)
    original = executor.PPQuantFunction
    executor.PPQuantFunction = fake_quantize
    try:
        with fast_packing(), fast_info(), fast_observers(), fast_forward():
            yield
    finally:
        executor.PPQuantFunction = original
        defs.gc = collector


def speed_up_pass(optimization: Any) -> None:
    """Make one pass of a pipeline fast, where there is something to gain; only this instance.

    Afterwards it gives back the memory that it freed.
    """
    from esp_ppq.quantization.optim.training import (
        TrainedQuantizationThresholdPass,
        TrainingBasedPass,
    )

    if isinstance(optimization, TrainingBasedPass):
        collector = Collector(optimization)
        optimization.split_graph_into_blocks = collector.split_graph_into_blocks
        optimization.collect = collector.collect
    # No setting gives a pass another optimizer than Adam.
    if (
        isinstance(optimization, TrainedQuantizationThresholdPass)
        and optimization.optimizer is None
    ):
        optimization.finetune = TqtTrainer(optimization).finetune
    optimize = optimization.optimize

    def giving_back(*args: Any, **kwargs: Any) -> None:
        optimize(*args, **kwargs)
        give_back_freed_memory()

    optimization.optimize = giving_back
