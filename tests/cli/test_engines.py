"""What counts as agreement of two analyses."""

from __future__ import annotations

import math

import pytest

from espdl_quantize.cli.engines import largest_difference


@pytest.mark.parametrize("error", [1.0, 1e-3, 1e-9])
def test_it_is_the_amplitude_that_is_compared(error: float) -> None:
    other = (math.sqrt(error) + 1e-7) ** 2
    assert largest_difference({"a": error, "b": 0.5}, {"a": other, "b": 0.5}) == pytest.approx(
        1e-7, rel=1e-4
    )


def test_other_ops_never_agree() -> None:
    assert largest_difference({"a": 1.0}, {"b": 1.0}) == math.inf


def test_what_is_no_number_agrees_with_its_like_alone() -> None:
    nan = float("nan")
    assert largest_difference({"a": nan, "b": math.inf}, {"a": nan, "b": math.inf}) == 0
    assert largest_difference({"a": nan}, {"a": 1.0}) == math.inf
    assert largest_difference({"a": 1.0}, {"a": nan}) == math.inf
