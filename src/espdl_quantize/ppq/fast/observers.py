"""Calibration's observers with compiled counting, and the same histograms and percentiles.

An observer's own state changes only once everything is counted: esp-ppq's own can take over from a
failure without a snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from esp_ppq.core import PPQ_CONFIG, QuantizationProperty, QuantizationStates
from torch import Tensor

from espdl_quantize.ppq._fallback import OBSERVER, Fallback
from espdl_quantize.ppq.fast import observer_kernels as kernels
from espdl_quantize.ppq.fast._fake_quant import flat

_COUNTABLE = 1 << 24
"""torch.histc counts in float32, which is exact below; where a bin holds more, it has its way."""

Observe = Callable[[Any, Tensor], None]


def histogram(original: Observe, fallback: Fallback) -> Observe:
    """Return a histogram observer's ``observe`` that counts by a kernel where that fits."""
    return fallback.guarded(OBSERVER, _histogram(original), original, _layer(fallback))


def percentile(original: Observe, fallback: Fallback) -> Observe:
    """Return a percentile observer's ``observe`` that counts by kernels where these fit."""
    return fallback.guarded(OBSERVER, _percentile(original), original, _layer(fallback))


def mean_square_error(original: Callable[..., float], fallback: Fallback) -> Callable[..., float]:
    """Return the error of a range of a histogram by a kernel."""
    return fallback.guarded(OBSERVER, _mse(original), original, _layer(fallback))


def _layer(fallback: Fallback) -> Callable[..., str]:
    def layer(observer: Any, *_: Any, **__: Any) -> str:
        names = fallback.layer_of(observer._quant_cfg), str(observer._watch_on.name)
        return ", tensor ".join(name for name in names if name)

    return layer


def order_statistics(tensor: Tensor, first: int, second: int) -> tuple[Tensor, Tensor]:
    """Return the ``first``-th and ``second``-th smallest numbers of a tensor, from 1.

    A float32 tensor on the CPU is counted by the upper and then by the lower half of its numbers'
    bits; elsewhere the few numbers on either end are selected. Either takes a fraction of the time
    of torch.kthvalue, and gives the same numbers.
    """
    if tensor.is_cuda or tensor.dtype != torch.float32:
        values, count = tensor.flatten(), tensor.numel()
        low = torch.topk(values, first, largest=False, sorted=False).values.max()
        high = torch.topk(values, count - second + 1, sorted=False).values.min()
        return low, high
    bits = flat(tensor.detach())[1].view(np.uint32)
    parts = _parts(kernels.HALVES)
    kernels.count_upper_halves(bits, parts)
    counts = parts.sum(0)
    (upper, rank), (other, other_rank) = (_place(counts, one) for one in (first, second))
    parts = _parts(2, kernels.HALVES)
    kernels.count_lower_halves(bits, np.uint32(upper), np.uint32(other), parts)
    lower = parts.sum(0)
    return (
        _number(upper, _place(lower[0], rank)[0]),
        _number(other, _place(lower[1], other_rank)[0]),
    )


def _parts(*shape: int) -> Any:
    """Return zeros to count into, of a shape for each thread."""
    return np.zeros((numba.get_num_threads(), *shape), np.int64)


def _place(counts: Any, rank: int) -> tuple[int, int]:
    """Return the bin that holds the number of a rank, and its rank among those in the bin."""
    totals = np.cumsum(counts)
    place = int(np.searchsorted(totals, rank))
    return place, rank - int(totals[place] - counts[place])


def _number(upper: int, lower: int) -> Tensor:
    key = (upper << 16) | lower
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return torch.from_numpy(np.array(bits, np.uint32).view(np.float32))


def _histogram(original: Observe) -> Observe:
    def observe(self: Any, value: Tensor) -> None:
        config = self._quant_cfg
        limit = np.float32(self._hist_scale * self._hist_bins) if self._hist_scale else 0.0
        if (
            self._phase != "Collating Hist"
            or config.state != QuantizationStates.INITIAL
            or not config.policy.has_property(QuantizationProperty.SYMMETRICAL)
            or value.is_cuda
            or value.dtype != torch.float32
            or value.numel() == 0
            or not (math.isfinite(limit) and limit > 0)
        ):
            original(self, value)
            return
        parts = _parts(self._hist_bins)
        kernels.histogram_of_sizes(flat(value.detach())[1], limit, parts)
        counts = parts.sum(0)
        if counts.max() >= _COUNTABLE:
            original(self, value)
            return
        counted = torch.from_numpy(counts).int()
        self._hist = counted if self._hist is None else self._hist + counted

    return observe


def _percentile(original: Observe) -> Observe:
    def observe(self: Any, value: Tensor) -> None:
        config = self._quant_cfg
        own = PPQ_CONFIG.USING_CUDA_KERNEL and value.is_cuda
        if (
            own
            or config.state != QuantizationStates.INITIAL
            or not config.policy.has_property(QuantizationProperty.PER_TENSOR)
            or not isinstance(value, Tensor)
            or value.numel() == 0
        ):
            original(self, value)
            return
        count = value.numel()
        # As esp-ppq counts them.
        low = max(0, int(count * (1 - self._percentile))) + 1
        high = min(int(count * self._percentile), count - 1) + 1
        smallest, largest = order_statistics(value, low, high)
        self._percentile_collector.append(torch.stack([largest, smallest]).view(1, -1))

    return observe


def _mse(original: Callable[..., float]) -> Callable[..., float]:
    def compute_mse_loss(self: Any, histogram: list[int], start: int, step: int, end: int) -> float:
        if PPQ_CONFIG.USING_CUDA_KERNEL:
            return original(self, histogram=histogram, start=start, step=step, end=end)
        counts = np.asarray(histogram, dtype=np.int64)
        return float(kernels.mse_of_range(counts, int(counts.sum()), start, step, end))

    return compute_mse_loss
