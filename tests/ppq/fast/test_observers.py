"""Counting by kernels against torch and esp-ppq, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from esp_ppq.quantization.observer.range import TorchMSEObserver
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from espdl_quantize.ppq.fast import observer_kernels as kernels
from espdl_quantize.ppq.fast.observers import order_statistics

torch.manual_seed(0)
VALUES = {
    "normal": torch.randn(100_003),
    "relu": torch.randn(50_000).relu(),
    "heavy tail": torch.randn(20_000) ** 5,
    "constant": torch.full((1000,), -3.25),
    "zeros of both signs": torch.tensor([0.0, -0.0] * 50),
    "few": torch.tensor([3.0, -1.0, 2.0]),
    "tiny": torch.randn(1000) * 1e-40,
    "image": torch.randn(4, 8, 9, 9).contiguous(memory_format=torch.channels_last),
    "infinite": torch.tensor([float("inf"), 1.0, -float("inf"), 2.0]),
}
on_all = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)


@on_all
def test_order_statistics_are_those_of_kthvalue(value: Tensor) -> None:
    count = value.numel()
    for low in {1, 1 + count // 10_000, 1 + count // 3, count}:
        high = count - low + 1
        wanted = [float(torch.kthvalue(value.flatten(), k).values) for k in (low, high)]
        assert [float(one) for one in order_statistics(value, low, high)] == wanted
        # As it is done on a GPU.
        assert [float(one) for one in order_statistics(value.double(), low, high)] == wanted


# A range of zero is left to esp-ppq's own observer.
@pytest.mark.parametrize("name", sorted(VALUES.keys() - {"tiny", "zeros of both signs"}))
@pytest.mark.parametrize("bins", [2048, 4096, 1000])
def test_the_histogram_is_that_of_histc(name: str, bins: int) -> None:
    value = VALUES[name]
    limit = 1.5 if name == "infinite" else float(value.abs().max()) / bins * bins
    wanted = torch.histc(torch.abs(value), bins, min=0, max=limit).int()
    dense = value.contiguous().view(-1).numpy()
    for threads in (1, 3):
        parts = np.zeros((threads, bins), np.int64)
        kernels.histogram_of_sizes(dense, np.float32(limit), parts)
        assert parts.sum(0).tolist() == wanted.tolist()


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 1 << 20), min_size=8, max_size=64).filter(any),
    start=st.integers(0, 8),
    step=st.integers(1, 9),
    levels=st.integers(1, 16),
)
def test_the_error_of_a_range_is_esp_ppqs(
    counts: list[int], start: int, step: int, levels: int
) -> None:
    end = start + step * levels
    wanted = TorchMSEObserver.compute_mse_loss(None, counts, start, step, end)
    found = kernels.mse_of_range(np.array(counts), sum(counts), start, step, end)
    assert found == wanted
