"""Collects the data of esp-ppq's training passes without running the graph anew for each block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from esp_ppq.IR import QuantableOperation
from esp_ppq.IR.quantize import QuantableGraph
from torch import Tensor

from espdl_quantize.ppq.fast._runner import OpRunner
from espdl_quantize.ppq.fast.training._activations import Activations

Data = list[dict[str, Tensor]]
"""One value per variable name, for each batch."""


class Collector:
    """Stands in for ``collect`` of one esp-ppq ``TrainingBasedPass``.

    Args:
        optimization: the pass.
    """

    def __init__(self, optimization: Any) -> None:
        self._split = optimization.split_graph_into_blocks
        self._blocks: list[Any] = []
        self._caches: tuple[Activations, Activations] | None = None
        self._last: Any = None

    def name_of(self, block: Any) -> str:
        """Name a block by its place, and its first and last op."""
        ends = f"{block.sp.name} to {block.ep.name}"
        places = [place for place, one in enumerate(self._blocks, 1) if one is block]
        return f"block {places[0]} of {len(self._blocks)}: {ends}" if places else ends

    def forget(self) -> None:
        """Free what was kept for the blocks to come."""
        self._caches, self._last = None, None

    def split_graph_into_blocks(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Split as esp-ppq does, and take note of what will be asked for."""
        self._blocks = list(self._split(*args, **kwargs))
        self._caches, self._last = None, None
        return list(self._blocks)

    def collect(
        self,
        graph: Any,
        block: Any,
        executor: Any,
        dataloader: Iterable[Any],
        collate_fn: Any = None,
        collecting_device: str = "cpu",
        steps: int | None = None,
        expire_device: str = "cpu",
    ) -> tuple[Data, Data]:
        """Return the quantized inputs and the float outputs of a block, for each batch.

        The arguments are those of ``TrainingBasedPass.collect``. Values stay on the executor's
        device.
        """
        if self._caches is None:
            batches = [batch if collate_fn is None else collate_fn(batch) for batch in dataloader]
            batches = batches if steps is None else batches[: steps + 1]
            runner = OpRunner(executor._device)
            self._caches = (
                Activations(graph, runner, batches, _all(self._blocks, _input_names)),
                Activations(graph, runner, batches, _all(self._blocks, _output_names)),
            )
        quantized, exact = self._caches
        if self._last is not None:
            # The block before has been trained since.
            quantized.forget(_changed_ops(graph, self._last))
        self._last = block
        helper = QuantableGraph(graph)
        helper.dequantize_graph(expire_device=executor._device)
        try:
            outputs = exact.get(_output_names(block))
        finally:
            helper.restore_quantize_state(expire_device=executor._device)
        inputs = quantized.get(_input_names(block))
        for name, value in (*inputs[0].items(), *outputs[0].items()):
            if value is None:
                raise TypeError(f"the block from {block.sp.name} has no value for {name}")
        return inputs, outputs


def _all(blocks: list[Any], names: Any) -> list[str]:
    return [name for block in blocks for name in names(block)]


def _input_names(block: Any) -> list[str]:
    return [variable.name for variable in block.sp.inputs if not variable.is_parameter]


def _output_names(block: Any) -> list[str]:
    return [variable.name for variable in block.ep.outputs]


def _changed_ops(graph: Any, block: Any) -> list[Any]:
    """Return the ops whose outputs may differ after a block was trained.

    Besides those of the block these are ops elsewhere that share one of its scales: the inputs of
    an aligned Concat, for one.
    """
    masters = {
        config
        for op in block.rps
        if isinstance(op, QuantableOperation)
        for config, _ in op.config_with_variable
        if config.dominated_by == config
    }
    elsewhere = [
        op
        for op in graph.operations.values()
        if isinstance(op, QuantableOperation)
        and any(config.dominated_by in masters for config, _ in op.config_with_variable)
    ]
    return [*block.rps, *elsewhere]
