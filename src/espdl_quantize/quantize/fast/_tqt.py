"""Trains the blocks of esp-ppq's TQT pass with one kernel per fake quantization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from esp_ppq.core import QuantizationProperty, QuantizationStates
from esp_ppq.IR import QuantableOperation
from esp_ppq.quantization.algorithm.training import TQTDelegator
from esp_ppq.quantization.measure import torch_mean_square_error
from esp_ppq.quantization.qfunction.linear import PPQLinearQuantFunction
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from espdl_quantize.quantize.fast import _kernels as kernels
from espdl_quantize.quantize.fast._collect import Data
from espdl_quantize.quantize.fast._fake_quant import (
    Grid,
    by_channel,
    fake_quantize,
    fits,
    flat,
    grid_of,
    like,
    make_grid,
    masked,
    quantized,
)
from espdl_quantize.quantize.fast._memory import fitting_threads
from espdl_quantize.quantize.fast._runner import OpRunner, inputs_of, store

_TRAINED_TYPES = ("Add", "Mul")
"""Types beyond the computing ones whose constants esp-ppq trains."""


class _Trained(Function):
    """Fake quantization with gradients to the tensor and to the base-2 logarithm of the scale."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, log2_scale: Tensor | None, grid: Grid) -> Tensor:
        result, dense = quantized(tensor, grid)
        ctx.grid, ctx.like = grid, log2_scale
        ctx.save_for_backward(dense)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        grid, (tensor,) = ctx.grid, ctx.saved_tensors
        if grid.axis is None and ctx.like is None:
            return masked(tensor, gradients[0], grid), None, None
        dx, dscale = _backward(tensor, gradients[0], grid)
        if ctx.like is None:
            return dx, None, None
        slope = dscale * grid.scale * math.log(2)
        return dx, torch.as_tensor(slope, dtype=ctx.like.dtype).reshape(ctx.like.shape), None


def _backward(tensor: Tensor, dy: Tensor, grid: Grid) -> tuple[Tensor, Any]:
    """Return the gradients of the tensor and of the scale, a number or one per channel."""
    source, gradient = flat(tensor)[1], flat(like(dy, tensor))[1]
    inverse, _, low, high, half = grid.scalars(source.dtype.type)
    dx = torch.empty_like(tensor)
    target = flat(dx)[1]
    if grid.axis is None:
        return dx, kernels.backward(source, gradient, inverse, low, high, half, grid.up, target)
    source, gradient, target = (
        by_channel(one, tensor.shape, grid.axis) for one in (source, gradient, target)
    )
    total = np.empty(source.shape[1])
    kernels.backward_channels(source, gradient, inverse, low, high, half, grid.up, target, total)
    return dx, total


class _Quantizer:
    """Quantizes with the scales that are being trained."""

    def __init__(self) -> None:
        self.delegators: dict[int, TQTDelegator] = {}

    def __call__(self, tensor: Any, config: Any) -> Any:
        delegator = self.delegators.get(id(config))
        if delegator is None or tensor is None or not QuantizationStates.is_activated(config.state):
            return fake_quantize(tensor, config)
        log2_scale = delegator.log2_scale if delegator.is_scale_trainable else None
        grid = None
        if fits(tensor) and log2_scale is None:
            grid = grid_of(config)
        elif fits(tensor) and log2_scale is not None and not log2_scale.is_cuda:
            grid = make_grid(config, np.exp2(np.rint(log2_scale.detach().numpy())))
        if grid is None:
            return delegator(tensor, config)
        return _Trained.apply(tensor, log2_scale, grid)  # type: ignore[no-untyped-call]


class TqtTrainer:
    """Stands in for ``finetune`` of one esp-ppq ``TrainedQuantizationThresholdPass``.

    Args:
        optimization: the pass, which holds the parameters of the training.
    """

    def __init__(self, optimization: Any) -> None:
        self._pass = optimization

    def finetune(
        self,
        steps: int,
        learning_rate: float,
        block: Any,
        executor: Any,
        qt_inputs: Data,
        fp_outputs: Data,
        optimizer: Any = None,
        scheduler: Any = None,
    ) -> tuple[float, float]:
        """Train the weights and scales of one block; keep them where the loss does not grow.

        Returns:
            The mean loss over the batches before and after.

        Raises:
            ValueError: there is no batch.
        """
        self._pass.enable_block_gradient(block)
        quantizer = _Quantizer()
        runner = OpRunner(executor._device, quantizer)
        before = self._mean_loss(runner, block, qt_inputs, fp_outputs)
        tensors = self._trainable(block, quantizer)
        if not tensors:
            return 0, 0
        if not qt_inputs:
            raise ValueError("Dataset is empty.")
        optimizer = _make_optimizer(self._pass.optimizer, tensors, learning_rate)
        largest = max(one.numel() for one in (*qt_inputs[0].values(), *fp_outputs[0].values()))
        with fitting_threads(largest):
            for step in range(steps):
                number = step % len(qt_inputs)
                optimizer.zero_grad()
                loss = self._loss(runner, block, qt_inputs[number], fp_outputs[number])
                loss = loss + self._penalties(block, quantizer)
                loss.backward()
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
        after = self._mean_loss(runner, block, qt_inputs, fp_outputs)
        self._settle(quantizer, is_worse=after > before)
        self._pass.disable_block_gradient(block)
        return before, after

    def _trainable(self, block: Any, quantizer: _Quantizer) -> list[Tensor]:
        """Make the delegators of a block; return what is trained, each tensor once."""
        found: list[Any] = []
        for op in block.rps:
            if not isinstance(op, QuantableOperation):
                continue
            if op.is_computing_op or op.type in _TRAINED_TYPES:
                found += [variable.value for variable in op.inputs if variable.is_parameter]
            for config, variable in op.config_with_variable:
                if config.state in {QuantizationStates.ACTIVATED, QuantizationStates.PASSIVE}:
                    delegator = TQTDelegator(
                        config=config,
                        var=variable,
                        is_scale_trainable=self._pass.is_scale_trainable,
                    )
                    found += delegator.trainable_tensors()
                    quantizer.delegators[id(config)] = delegator
        return list({id(one): one for one in found if one.requires_grad}.values())

    def _loss(
        self, runner: OpRunner, block: Any, inputs: dict[str, Tensor], wanted: dict[str, Tensor]
    ) -> Tensor:
        # They lie elsewhere only where memory is short.
        values = {name: value.to(runner.device) for name, value in inputs.items()}
        for op in block.rps:
            store(op, runner.run(op, inputs_of(op, values)), values)
        losses = [
            self._distance(values[name], value.to(runner.device)) for name, value in wanted.items()
        ]
        return torch.stack(losses).sum()

    def _distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        if self._pass.loss_fn is torch_mean_square_error and found.shape == wanted.shape:
            return functional.mse_loss(found, wanted)
        return self._pass.loss_fn(found, wanted)  # type: ignore[no-any-return]

    def _mean_loss(self, runner: OpRunner, block: Any, inputs: Data, wanted: Data) -> float:
        with torch.no_grad():
            losses = [
                self._loss(runner, block, *pair).item() for pair in zip(inputs, wanted, strict=True)
            ]
        return sum(losses) / len(losses)

    def _penalties(self, block: Any, quantizer: _Quantizer) -> Any:
        """Return esp-ppq's regularisation: of fractional exponents, and of the weights' noise."""
        total: Any = 0.0
        if self._pass.int_lambda > 0:
            for delegator in quantizer.delegators.values():
                if delegator.is_scale_trainable:
                    exponent = delegator.log2_scale
                    rounding = torch.mean((exponent - torch.round(exponent)) ** 2)
                    total = total + self._pass.int_lambda * rounding
        if self._pass.gamma == 0:
            return total
        for op in block.rps:
            if isinstance(op, QuantableOperation) and op.is_computing_op:
                weight, config = op.inputs[1].value, op.config.input_quantization_config[1]
                if not config.policy.has_property(QuantizationProperty.LINEAR):
                    continue
                noisy = PPQLinearQuantFunction(weight, config)
                if noisy is not None:
                    total = total + torch_mean_square_error(weight, noisy) * self._pass.gamma
        return total

    def _settle(self, quantizer: _Quantizer, is_worse: bool) -> None:
        """Write the trained scales back, or take the training back."""
        for delegator in quantizer.delegators.values():
            if is_worse:
                delegator.withdraw()
            elif delegator.is_scale_trainable:
                with torch.no_grad():
                    trained = torch.pow(2.0, torch.round(delegator.log2_scale))
                    delegator.config.scale.copy_(trained)
            delegator.finalize()


def _make_optimizer(kind: Any, tensors: list[Tensor], learning_rate: float) -> Any:
    if kind is not None:
        return kind(tensors, lr=learning_rate)
    try:
        return torch.optim.Adam(tensors, lr=learning_rate, fused=True)
    except (RuntimeError, TypeError):
        # Older versions of torch fuse on a GPU alone.
        return torch.optim.Adam(tensors, lr=learning_rate)
