"""Adam on tensors in one piece, against torch's on the tensors one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from espdl_quantize.ppq.fast.training.parameters import Parameters


def tensors() -> list[Tensor]:
    torch.manual_seed(0)
    image = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    found = [image, torch.randn(5), torch.tensor(-3.0), torch.randn(2, dtype=torch.float64)]
    return [one.requires_grad_() for one in found]


def loss(given: list[Tensor]) -> Tensor:
    # Some numbers have no gradient.
    return sum(((one.double() - 0.5).relu() ** 4).mean() for one in given)  # type: ignore[return-value]


@pytest.mark.parametrize("rate", [1e-5, 1e-1])
def test_steps_are_those_of_torch(rate: float) -> None:
    plain, ours = tensors(), tensors()
    optimizer, parameters = torch.optim.Adam(plain, lr=rate), Parameters(ours, rate)
    for _ in range(20):
        optimizer.zero_grad()
        loss(plain).backward()
        loss(ours).backward()
        optimizer.step()
        parameters.step()
    parameters.release()
    for wanted, found in zip(plain, ours, strict=True):
        # torch's square root on a CPU is not always the nearest number.
        epsilon = torch.finfo(wanted.dtype).eps
        torch.testing.assert_close(found, wanted, rtol=8 * epsilon, atol=8 * epsilon)


def test_the_memory_is_the_tensors_own_again() -> None:
    given = tensors()
    places, strides = [one.data_ptr() for one in given], [one.stride() for one in given]
    parameters = Parameters(given, 0.1)
    assert [one.data_ptr() for one in given] != places
    loss(given).backward()
    parameters.step()
    parameters.release()
    assert [one.data_ptr() for one in given] == places
    assert [one.stride() for one in given] == strides
    assert all(one.grad is None for one in given)
