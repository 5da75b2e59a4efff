"""Trains the blocks of esp-ppq's TQT pass with one kernel per fake quantization."""

from __future__ import annotations

import math
from typing import Any

import torch
from esp_ppq.core import QuantizationProperty, QuantizationStates
from esp_ppq.IR import QuantableOperation
from esp_ppq.quantization.algorithm.training import TQTDelegator
from esp_ppq.quantization.measure import torch_mean_square_error
from esp_ppq.quantization.qfunction.linear import PPQLinearQuantFunction
from torch import Tensor
from torch.nn import functional

from espdl_quantize.ppq.fast._memory import fitting_threads
from espdl_quantize.ppq.fast.training._collect import Data
from espdl_quantize.ppq.fast.training._scales import Scales
from espdl_quantize.ppq.fast.training.block import BlockRunner
from espdl_quantize.ppq.fast.training.parameters import Parameters, longest_way
from espdl_quantize.record import MOST_LOSSES, losses_line

_TRAINED_TYPES = ("Add", "Mul")
"""Types beyond the computing ones whose constants esp-ppq trains."""


_HELD = 512
"""Losses that are held before they are read: each reading waits for the device."""


class BlockLosses(tuple[float, float]):
    """The mean loss over the batches before and after training.

    Attributes:
        line: of the log, with the loss over the steps.
    """

    line = ""


class _Steps:
    """The loss of each step, as means over runs of steps.

    Args:
        steps: that are to come.
        batches: that they go through in turn. Where there are steps enough, a mean is one over all
            of them, so that it tells of the training alone.
    """

    def __init__(self, steps: int, batches: int) -> None:
        # Two of the points are the losses before and after.
        self._run = math.ceil(steps / (MOST_LOSSES - 2)) or 1
        if steps >= 10 * batches:
            self._run = math.ceil(self._run / batches) * batches
        self._held: list[Tensor] = []
        self._read: list[float] = []

    def add(self, loss: Tensor) -> None:
        """Take note of a loss, and leave it where it is."""
        self._held.append(loss.detach())
        if len(self._held) == _HELD:
            self._fetch()

    def points(self) -> list[tuple[int, float]]:
        """Return the middle of each run of steps, and the mean loss there."""
        self._fetch()
        runs = range(0, len(self._read), self._run)
        parts = [(start, self._read[start : start + self._run]) for start in runs]
        return [(start + (len(part) + 1) // 2, sum(part) / len(part)) for start, part in parts]

    def _fetch(self) -> None:
        if self._held:
            self._read += torch.stack(self._held).tolist()
            self._held.clear()


class TqtTrainer:
    """Stands in for ``finetune`` of one esp-ppq ``TrainedQuantizationThresholdPass``.

    Args:
        optimization: the pass, which holds the parameters of the training.
    """

    def __init__(self, optimization: Any) -> None:
        self._pass = optimization
        self._steps = _Steps(0, 1)

    def finetune(
        self,
        steps: int,
        learning_rate: float,
        block: Any,
        executor: Any,
        qt_inputs: Data,
        fp_outputs: Data,
    ) -> tuple[float, float]:
        """Train the weights and scales of one block; keep them where the loss does not grow.

        The loss over the steps is printed, as esp-ppq prints what comes before and after.

        Returns:
            The mean loss over the batches before and after, as :class:`BlockLosses`.

        Raises:
            ValueError: there is no batch.
        """
        self._pass.enable_block_gradient(block)
        self._steps = _Steps(0, 1)
        scales, device = Scales(), executor._device
        before = self._mean_loss(BlockRunner(block, device, scales), qt_inputs, fp_outputs)
        tensors = self._trainable(block, scales)
        if not tensors:
            return 0, 0
        if not qt_inputs:
            raise ValueError("Dataset is empty.")
        after = self._train_what_moves(
            block, device, scales, tensors, (learning_rate, steps), (qt_inputs, fp_outputs), before
        )
        self._keep_or_withdraw(scales, is_worse=after > before)
        self._pass.disable_block_gradient(block)
        losses = BlockLosses((before, after))
        losses.line = losses_line([(0, before), *self._steps.points(), (steps, after)])
        print(losses.line)
        return losses

    def _train_what_moves(
        self,
        block: Any,
        device: str,
        scales: Scales,
        tensors: list[Tensor],
        pace: tuple[float, int],
        data: tuple[Data, Data],
        before: float,
    ) -> float:
        """Train, without the scales that cannot come to another exponent at this pace.

        Returns:
            The mean loss over the batches after it.
        """
        held = {id(one) for one in scales.hold(longest_way(*pace), pace[1])}
        moving = [tensor for tensor in tensors if id(tensor) not in held]
        if not moving:
            return before
        copies = [one.detach().clone() for one in moving] if held else []
        after = self._train(block, device, scales, moving, pace, data)
        if held and not math.isfinite(after):
            # The bound is one for finite gradients.
            scales.let_go()
            for tensor, copy in zip(moving, copies, strict=True):
                tensor.data.copy_(copy)
            after = self._train(block, device, scales, tensors, pace, data)
        return after

    def _train(
        self,
        block: Any,
        device: str,
        scales: Scales,
        tensors: list[Tensor],
        pace: tuple[float, int],
        data: tuple[Data, Data],
    ) -> float:
        (rate, steps), (inputs, outputs) = pace, data
        runner = BlockRunner(block, device, scales)
        parameters = Parameters(tensors, rate)
        self._steps = _Steps(steps, len(inputs))
        with fitting_threads(runner.work(inputs[0])):
            for step in range(steps):
                number = step % len(inputs)
                loss = self._loss(runner, inputs[number], outputs[number])
                self._steps.add(loss)
                loss = loss + self._penalties(block, scales)
                loss.backward()
                parameters.step()
        parameters.release()
        return self._mean_loss(runner, inputs, outputs)

    def _trainable(self, block: Any, scales: Scales) -> list[Tensor]:
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
                    scales.add(config, delegator)
        return list({id(one): one for one in found if one.requires_grad}.values())

    def _loss(
        self, runner: BlockRunner, inputs: dict[str, Tensor], wanted: dict[str, Tensor]
    ) -> Tensor:
        found = runner.run(inputs)
        # They lie elsewhere only where memory is short.
        losses = [
            self._distance(found[name], value.to(runner.device)) for name, value in wanted.items()
        ]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        if self._pass.loss_fn is torch_mean_square_error and found.shape == wanted.shape:
            if found.dim() == 4 and not found.is_cuda:
                # The gradient of torch's mse_loss is in the order of the axes: the channels' last.
                found, wanted = (one.permute(0, 2, 3, 1) for one in (found, wanted))
            return functional.mse_loss(found, wanted)
        return self._pass.loss_fn(found, wanted)  # type: ignore[no-any-return]

    def _mean_loss(self, runner: BlockRunner, inputs: Data, wanted: Data) -> float:
        with torch.no_grad():
            losses = [self._loss(runner, *pair).item() for pair in zip(inputs, wanted, strict=True)]
        return sum(losses) / len(losses)

    def _penalties(self, block: Any, scales: Scales) -> Any:
        """Return esp-ppq's regularisation: of fractional exponents, and of the weights' noise."""
        total: Any = 0.0
        if self._pass.int_lambda > 0:
            for delegator in scales.delegators.values():
                exponent = scales.trained(delegator.config)
                if exponent is not None:
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

    def _keep_or_withdraw(self, scales: Scales, *, is_worse: bool) -> None:
        """Write the trained scales back, or take the training back."""
        for delegator in scales.delegators.values():
            if is_worse:
                delegator.withdraw()
            elif delegator.is_scale_trainable:
                with torch.no_grad():
                    trained = torch.pow(2.0, torch.round(delegator.log2_scale))
                    delegator.config.scale.copy_(trained)
            delegator.finalize()
