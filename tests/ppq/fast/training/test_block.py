"""A block with its fused convolutions against esp-ppq's own executor, at the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.executor import TorchExecutor
from esp_ppq.quantization.algorithm.training import TQTDelegator
from esp_ppq.quantization.optim.training import TrainedQuantizationThresholdPass

from espdl_quantize.contract import read_batches
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.ppq import engine_for, prepare_float_model, probe_target, quantize
from espdl_quantize.ppq.fast.training import Collector, TqtTrainer
from espdl_quantize.ppq.fast.training._scales import Scales
from espdl_quantize.ppq.fast.training.block import BlockRunner
from espdl_quantize.setting import parse_setting, resolve
from tests.matrix import thinned
from tests.slow.test_networks import contract_for

CASES = [
    (kind, target, 4)
    for kind in ("depthwise", "residual", "detector", "one class", "transformer")
    for target in ("esp32s3", "esp32p4")
]
CASES += [("depthwise", "esp32s3", 2)]


class Blocks:
    """The blocks of a calibrated network, with their inputs and targets."""

    def __init__(self, kind: str, target: str, size: int, folder: Path) -> None:
        contract = contract_for(kind, "torch", target, folder)
        batches = read_batches(contract)[:2]
        setting = resolve(parse_setting({"iteration_id": 0}), probe_target(target))
        with engine_for(Engine.FAST).install() as engine:
            model = prepare_float_model(contract, folder)
            self.graph = quantize(
                model, contract.config, setting, batches, NoProgress(), engine=engine
            ).graph
        self.executor = TorchExecutor(graph=self.graph, device="cpu")
        self.optimization = TrainedQuantizationThresholdPass(block_size=size)
        collector = Collector(self.optimization)
        self.blocks = collector.split_graph_into_blocks(
            graph=self.graph, executing_order=self.executor._executing_order, blocksize=size
        )
        native = [batch.as_esp_ppq() for batch in batches]
        self.data = [
            collector.collect(self.graph, block, self.executor, native) for block in self.blocks
        ]


def plain_loss(
    blocks: Blocks, block: Any, inputs: dict[str, Any], wanted: dict[str, Any]
) -> tuple[Any, list[TQTDelegator]]:
    """Return the loss of a step as esp-ppq's ``finetune`` takes it, and its delegators."""
    delegators = []
    for op in block.rps:
        for config, variable in getattr(op, "config_with_variable", ()):
            if config.state in {QuantizationStates.ACTIVATED, QuantizationStates.PASSIVE}:
                delegator = TQTDelegator(config=config, var=variable)
                blocks.executor.register_quantize_delegate(config=config, delegator=delegator)
                delegators.append(delegator)
    try:
        found = blocks.executor.partial_graph_forward(block.rps, dict(inputs), list(wanted))
    finally:
        for delegator in delegators:
            blocks.executor.remove_quantize_delegate(config=delegator.config)
    losses = [
        blocks.optimization.loss_fn(one, other)
        for one, other in zip(found, wanted.values(), strict=True)
    ]
    return sum(losses), delegators


@pytest.mark.parametrize(("kind", "target", "size"), thinned(CASES))
def test_loss_and_gradients_are_esp_ppqs(kind: str, target: str, size: int, tmp_path: Path) -> None:
    blocks = Blocks(kind, target, size, tmp_path)
    trainer = TqtTrainer(blocks.optimization)
    fused = 0
    for block, (inputs, wanted) in zip(blocks.blocks, blocks.data, strict=True):
        blocks.optimization.enable_block_gradient(block)
        plain, theirs = plain_loss(blocks, block, inputs[0], wanted[0])
        plain.backward()
        scales = Scales()
        tensors = trainer._trainable(block, scales)
        weights = [one for one in tensors if one.grad is not None]
        gradients = [one.grad.clone() for one in weights]  # type: ignore[union-attr]
        for one in weights:
            one.grad = None
        runner = BlockRunner(block, "cpu", scales)
        fused += len(runner._units)
        found = trainer._loss(runner, inputs[0], wanted[0])
        found.backward()  # type: ignore[no-untyped-call]
        assert found.item() == pytest.approx(plain.item(), rel=1e-5)
        for one, gradient in zip(weights, gradients, strict=True):
            near = 1e-4 * float(gradient.abs().max())
            torch.testing.assert_close(one.grad, gradient, rtol=1e-4, atol=near)
        pairs = [
            (delegator.log2_scale.grad, scales.delegators[id(delegator.config)].log2_scale.grad)
            for delegator in theirs
            if delegator.is_scale_trainable and delegator.log2_scale.grad is not None
        ]
        # Sums of many numbers of either sign.
        near = 1e-3 * max(float(slope.abs().max()) for slope, _ in pairs)
        for slope, own in pairs:
            torch.testing.assert_close(own, slope, rtol=1e-3, atol=near)
        blocks.optimization.disable_block_gradient(block)
    if kind in ("depthwise", "residual"):
        assert fused > 0
