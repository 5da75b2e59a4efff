"""Adam on tensors in one piece, against torch's on the tensors one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from espdl_quantize.ppq.fast.training.parameters import Parameters, longest_way


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
        loss(plain).backward()  # type: ignore[no-untyped-call]
        loss(ours).backward()  # type: ignore[no-untyped-call]
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
    loss(given).backward()  # type: ignore[no-untyped-call]
    parameters.step()
    parameters.release()
    assert [one.data_ptr() for one in given] == places
    assert [one.stride() for one in given] == strides
    assert all(one.grad is None for one in given)


def way_of(gradients: list[float]) -> float:
    """Return how far torch's Adam goes at a rate of 1."""
    value = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([value], lr=1.0)
    for gradient in gradients:
        value.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return abs(value.item())


def test_the_first_step_is_as_wide_as_the_rate() -> None:
    assert longest_way(0.1, 1) == pytest.approx(0.1)
    assert longest_way(0.1, 0) == 0.0


@pytest.mark.parametrize("steps", [2, 10, 60])
def test_a_step_can_be_as_wide_as_the_bound_says(steps: int) -> None:
    growing = [1e6 * (0.999 / 0.9) ** step for step in range(steps)]
    last = way_of(growing) - way_of(growing[:-1])
    assert last == pytest.approx(longest_way(1, steps) - longest_way(1, steps - 1), rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1))
def test_no_gradients_lead_further_than_the_bound(gradients: list[float]) -> None:
    assert way_of(gradients) <= longest_way(1, len(gradients)) * (1 + 1e-9)


def test_the_schedules_in_use_move_no_exponent() -> None:
    assert longest_way(1e-5, 500) < 0.02
    assert longest_way(5e-5, 1000) < 0.4
    assert longest_way(0.3, 2) > 0.5
