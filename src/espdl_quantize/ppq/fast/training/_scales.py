"""The scales of a block while they are being trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.quantization.algorithm.training import TQTDelegator
from torch import Tensor
from torch.autograd import Function

from espdl_quantize.ppq.fast import _gpu as gpu
from espdl_quantize.ppq.fast._fake_quant import (
    NO_BOUNDS,
    Bounds,
    Grid,
    fake_quantize,
    fits,
    gradients,
    grid_of,
    make_grid,
    quantized,
)

_USUAL = 1000
"""Size of the exponents of double precision."""

_SLACK = 1e-3
"""Of a way, for the rounding of Adam's moving averages: some thousand units in the last place."""


class Scales:
    """Quantizes with the scales that are being trained, and with the fixed ones elsewhere.

    Attributes:
        delegators: by the id of its configuration, what esp-ppq trains a scale with.
    """

    def __init__(self) -> None:
        self.delegators: dict[int, TQTDelegator] = {}
        self._fixed: dict[int, Grid | None] = {}
        self._held: set[int] = set()

    def add(self, config: Any, delegator: TQTDelegator) -> None:
        """Train a scale, or at least what is quantized by it."""
        self.delegators[id(config)] = delegator

    def trained(self, config: Any) -> Tensor | None:
        """Return the base-2 logarithm of a scale that is being trained; None for a fixed one."""
        delegator = self.delegators.get(id(config))
        if delegator is None or not delegator.is_scale_trainable or id(config) in self._held:
            return None
        return delegator.log2_scale  # type: ignore[no-any-return]

    def hold(self, way: float, steps: int) -> list[Tensor]:
        """Train no scale whose exponent stays what it is, wherever its logarithm may go.

        What is quantized by it is the same in each step then, and so is every other gradient.

        Args:
            way: how far a logarithm can go at most.
            steps: in how many steps, each of which rounds to float32.

        Returns:
            The logarithms that are held.
        """
        logarithms = []
        for key, delegator in self.delegators.items():
            if not delegator.is_scale_trainable:
                continue
            exact = delegator.log2_scale.detach()
            exponent = torch.round(exact)
            largest = float(exact.abs().max()) + way
            rounding = steps * float(np.spacing(np.float32(largest))) + _SLACK * way
            room = 0.5 - float((exact - exponent).abs().max())
            same = torch.equal(torch.pow(2.0, exponent), delegator.config.scale)
            if same and way + rounding < room:
                self._held.add(key)
                logarithms.append(delegator.log2_scale)
        return logarithms

    def let_go(self) -> None:
        """Train all scales again."""
        self._held.clear()

    def grid(self, config: Any) -> Grid | None:
        """Return the grid as it is now; None where there is no kernel for it."""
        log2_scale = self.trained(config)
        if log2_scale is None:
            if id(config) not in self._fixed:
                self._fixed[id(config)] = grid_of(config)
            return self._fixed[id(config)]
        if log2_scale.is_cuda:
            return None
        if log2_scale.numel() == 1:
            exponent = log2_scale.item()
            # Training may run away; esp-ppq goes on with infinity and NaN.
            is_usual = abs(exponent) < _USUAL
            return make_grid(config, math.ldexp(1.0, round(exponent))) if is_usual else None
        return make_grid(config, np.exp2(np.rint(log2_scale.detach().numpy())))

    def __call__(self, tensor: Any, config: Any, bounds: Bounds = NO_BOUNDS) -> Any:
        """Quantize the activation of a tensor."""
        delegator = self.delegators.get(id(config))
        if delegator is None or tensor is None or not QuantizationStates.is_activated(config.state):
            return fake_quantize(tensor, config, bounds)
        if tensor.is_cuda and gpu.takes(tensor, config):
            return gpu.fake_quantize(bounds.of(tensor), config, self.trained(config), masks=True)
        grid = self.grid(config) if fits(tensor) else None
        if grid is None or not grid.takes(tensor, bounds):
            return delegator(bounds.of(tensor), config)
        return _Trained.apply(  # type: ignore[no-untyped-call]
            tensor, self.trained(config), grid, bounds
        )


class _Trained(Function):
    """Fake quantization with gradients to the tensor and to the base-2 logarithm of the scale."""

    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, log2_scale: Tensor | None, grid: Grid, bounds: Bounds
    ) -> Tensor:
        result, dense = quantized(tensor, grid, bounds)
        ctx.grid, ctx.bounds, ctx.like = grid, bounds, log2_scale
        ctx.save_for_backward(dense)
        return result

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        dx, dscale = gradients(ctx.saved_tensors[0], dy[0], ctx.grid, ctx.bounds)
        return dx, slope(dscale, ctx.grid, ctx.like), None, None


def slope(dscale: Any, grid: Grid | None, log2_scale: Tensor | None) -> Tensor | None:
    """Return the gradient of the base-2 logarithm of a scale from that of the scale itself."""
    if log2_scale is None or grid is None:
        return None
    found = torch.as_tensor(dscale * grid.scale * math.log(2), dtype=log2_scale.dtype)
    return found.reshape(log2_scale.shape)
