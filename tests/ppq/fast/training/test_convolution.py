"""Convolutions and their gradients against torch's."""

from __future__ import annotations

import numba
import pytest
import torch
from torch import Tensor

from espdl_quantize.ppq.fast.training.convolution import (
    Geometry,
    convolution_gradients,
    convolved,
    depthwise_gradient,
)

GEOMETRIES = {
    # stride, padding, dilation, groups of 12 channels, kernel
    "dense": ((1, 1), (1, 1), (1, 1), 1, (3, 3)),
    "pointwise": ((1, 1), (0, 0), (1, 1), 1, (1, 1)),
    "strided pointwise": ((2, 2), (0, 0), (1, 1), 1, (1, 1)),
    "grouped": ((2, 1), (1, 0), (1, 1), 3, (3, 2)),
    "dilated": ((1, 1), (2, 2), (2, 2), 12, (3, 3)),
    "depthwise": ((2, 2), (1, 1), (1, 1), 12, (3, 3)),
    "wide": ((1, 1), (2, 2), (1, 1), 12, (5, 5)),
    "wide and strided": ((2, 2), (2, 3), (1, 1), 12, (5, 6)),
    "wider than its image": ((1, 1), (4, 4), (1, 1), 12, (9, 9)),
}


def made(name: str) -> tuple[Tensor, Tensor, Tensor, Geometry]:
    stride, padding, dilation, groups, kernel = GEOMETRIES[name]
    torch.manual_seed(0)
    x = torch.randn(10, 12, 7, 8, dtype=torch.float32)
    weight = torch.randn(12, 12 // groups, *kernel)
    x = x.contiguous(memory_format=torch.channels_last)
    return x, weight, torch.randn(12), Geometry(stride, padding, dilation, groups)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_values_and_gradients_are_torchs(name: str) -> None:
    x, weight, bias, geometry = made(name)
    x.requires_grad_()
    weight.requires_grad_()
    wanted = torch.nn.functional.conv2d(
        x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    )
    dz = torch.randn_like(wanted)
    wanted.backward(dz)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = convolved(x, weight, bias, geometry)
        dx, dweight = convolution_gradients(dz, x, weight, geometry, need_dx=True)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(dx, x.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dweight, weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["depthwise", "wide", "wide and strided", "wider than its image"])
def test_the_gradient_of_depthwise_weights_is_the_same_on_any_number_of_threads(name: str) -> None:
    x, weight, bias, geometry = made(name)
    dz = torch.randn_like(convolved(x, weight, bias, geometry))
    before = numba.get_num_threads()
    found = []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            found.append(depthwise_gradient(dz, x, weight, geometry.stride, geometry.padding))
    finally:
        numba.set_num_threads(before)
    assert torch.equal(*found)
