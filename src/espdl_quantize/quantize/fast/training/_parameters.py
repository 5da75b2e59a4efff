"""Trained tensors as pieces of one, so that a step of the optimizer is a step of one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
"""Of Kingma and Ba, "Adam" (2015), and the defaults of torch.optim.Adam."""


class Parameters:
    """Holds tensors in one piece of memory while Adam trains them, to torch.optim.Adam's numbers.

    torch's own steps one tensor after the other, and importing what it needs takes a second.

    Args:
        tensors: leaves of one device that require gradients.
        learning_rate: of Adam.
    """

    def __init__(self, tensors: Sequence[Tensor], learning_rate: float) -> None:
        self._tensors, self._own = tensors, [tensor.data for tensor in tensors]
        self._rate, self._steps = learning_rate, 0
        kinds = dict.fromkeys(tensor.dtype for tensor in tensors)
        self._wholes = [_Whole([one for one in tensors if one.dtype == kind]) for kind in kinds]

    def forget_gradients(self) -> None:
        """Set all gradients to zero."""
        for whole in self._wholes:
            whole.gradient.zero_()

    def step(self) -> None:
        """Change the tensors by their gradients."""
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in _BETAS)
        for whole in self._wholes:
            whole.mean.lerp_(whole.gradient, 1 - _BETAS[0])
            whole.square.mul_(_BETAS[1])
            whole.square.addcmul_(whole.gradient, whole.gradient, value=1 - _BETAS[1])
            size = (whole.square.sqrt() / second**0.5).add_(_EPSILON)
            whole.value.addcdiv_(whole.mean, size, value=-self._rate / first)

    def release(self) -> None:
        """Write what was trained to where the tensors were before."""
        for tensor, own in zip(self._tensors, self._own, strict=True):
            own.copy_(tensor.data)
            tensor.data, tensor.grad = own, None


class _Whole:
    """The tensors of one type, their gradients, and Adam's moments of these."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.value = torch.cat([tensor.data.reshape(-1) for tensor in tensors])
        self.gradient, self.mean, self.square = (torch.zeros_like(self.value) for _ in range(3))
        start = 0
        for tensor in tensors:
            end = start + tensor.numel()
            tensor.data = self.value[start:end].view(tensor.shape)
            tensor.grad = self.gradient[start:end].view(tensor.shape)
            start = end
