"""Trained tensors as pieces of one, so that a step of the optimizer is a step of one tensor."""

# Compiled code is seen by neither a coverage tool nor a type checker.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
import torch
from torch import Tensor

from espdl_quantize.ppq.fast._kernels import PIECE, compiled, in_parallel

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
"""Of Kingma and Ba, "Adam" (2015), and the defaults of torch.optim.Adam."""


def longest_way(learning_rate: float, steps: int) -> float:
    """Return how far Adam moves a parameter at most, whatever its gradients are, if finite.

    Step t is rate * (m / c1) / sqrt(v / c2), with m and v the moving averages of the gradients and
    of their squares, and c1 = 1 - beta1^t, c2 = 1 - beta2^t the corrections of their bias. By the
    inequality of Cauchy and Schwarz

        m^2 <= (1 - beta1)^2 / (1 - beta2) * v * (sum over k < t of (beta1^2 / beta2)^k)

    and equality holds for gradients that grow by beta2 / beta1 from step to step. The first step
    is the rate at most, a late one 7.3 times that.
    """
    first, second = _BETAS
    way, powers = 0.0, 0.0
    for step in range(1, steps + 1):
        powers = powers * first**2 / second + 1
        size = (1 - first) / (1 - first**step)
        way += size * math.sqrt((1 - second**step) / (1 - second) * powers)
    return learning_rate * way


class Parameters:
    """Holds tensors in one piece of memory while Adam trains them, to torch.optim.Adam's numbers
    up to their last bits.

    torch's own steps one tensor after the other, and importing what it needs takes a second.

    Args:
        tensors: leaves of one device that require gradients.
        learning_rate: of Adam.
    """

    def __init__(self, tensors: Sequence[Tensor], learning_rate: float) -> None:
        self._tensors, self._own = tensors, [tensor.data for tensor in tensors]
        self._rate, self._steps = learning_rate, 0
        kinds = dict.fromkeys(tensor.dtype for tensor in tensors)
        self._wholes = [
            _Whole([tensor for tensor in tensors if tensor.dtype == kind]) for kind in kinds
        ]

    def step(self) -> None:
        """Change the tensors by their gradients, and set these to zero."""
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in _BETAS)
        for whole in self._wholes:
            whole.step(second**0.5, -self._rate / first)

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

    def step(self, correction: float, rate: float) -> None:
        """Update the moments, add rate * mean / (sqrt(square) / correction + epsilon), and forget
        the gradient."""
        arrays = self.value, self.gradient, self.mean, self.square
        if not self.value.is_cuda:
            _step(*(array.numpy() for array in arrays), correction, rate)
            return
        self.mean.lerp_(self.gradient, 1 - _BETAS[0])
        self.square.mul_(_BETAS[1])
        self.square.addcmul_(self.gradient, self.gradient, value=1 - _BETAS[1])
        size = (self.square.sqrt() / correction).add_(_EPSILON)
        self.value.addcdiv_(self.mean, size, value=rate)
        self.gradient.zero_()


@compiled
def _step_piece(value, gradient, mean, square, fixed):  # pragma: no cover
    new, keep, fresh, correction, epsilon, rate = fixed
    for i in range(value.size):
        mean[i] += new * (gradient[i] - mean[i])
        square[i] = keep * square[i] + fresh * gradient[i] * gradient[i]
        value[i] += rate * mean[i] / (np.sqrt(square[i]) / correction + epsilon)
        gradient[i] = 0


@in_parallel
def _step(value, gradient, mean, square, correction, rate):  # pragma: no cover
    """Do all at once; torch's square root of zero alone takes five times as long as another, and
    many weights have no gradient."""
    kind = value.dtype.type
    new, keep, fresh = kind(1 - _BETAS[0]), kind(_BETAS[1]), kind(1 - _BETAS[1])
    fixed = new, keep, fresh, kind(correction), kind(_EPSILON), kind(rate)
    for piece in numba.prange((value.size + PIECE - 1) // PIECE):
        i, j = piece * PIECE, min((piece + 1) * PIECE, value.size)
        _step_piece(value[i:j], gradient[i:j], mean[i:j], square[i:j], fixed)
