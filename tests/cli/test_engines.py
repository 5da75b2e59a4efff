"""What counts as agreement of two analyses."""

from __future__ import annotations

import math

import pytest

from espdl_quantize.cli.engines import Agreement, largest_difference, print_agreement


@pytest.mark.parametrize("error", [1.0, 1e-3, 1e-9])
def test_it_is_the_amplitude_that_is_compared(error: float) -> None:
    other = (math.sqrt(error) + 1e-7) ** 2
    assert largest_difference({"a": error, "b": 0.5}, {"a": other, "b": 0.5}) == pytest.approx(
        1e-7, rel=1e-4
    )


@pytest.mark.parametrize(
    ("values", "layerwise", "last"),
    [
        ((90.5, 90.5), 1e-7, "the engines agree; the fast one is 2.5 times as fast in all"),
        (
            (90.5, 90.4),
            0.0,
            "the engines do not agree: the scores differ; the fast one is 2.5 times as fast in all",
        ),
        (
            (90.5, 90.5),
            1e-3,
            "the engines do not agree: noise amplitudes differ by more than 1e-06; the fast one is "
            "2.5 times as fast in all",
        ),
    ],
)
def test_the_last_line_sums_up(
    values: tuple[float, float],
    layerwise: float,
    last: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stages = {"quantize": (5.0, 2.0), "export": (0.5, 0.01)}
    print_agreement(Agreement(values, layerwise, 0.0, True, stages, 2.5, ("a part (conv): why",)))
    text = " ".join(capsys.readouterr().out.split())
    assert text.endswith(last)
    assert "failed: a part (conv): why" in text


def test_other_ops_never_agree() -> None:
    assert largest_difference({"a": 1.0}, {"b": 1.0}) == math.inf


def test_what_is_no_number_agrees_with_its_like_alone() -> None:
    nan = float("nan")
    assert largest_difference({"a": nan, "b": math.inf}, {"a": nan, "b": math.inf}) == 0
    assert largest_difference({"a": nan}, {"a": 1.0}) == math.inf
    assert largest_difference({"a": 1.0}, {"a": nan}) == math.inf
