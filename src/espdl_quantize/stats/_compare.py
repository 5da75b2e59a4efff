"""Whether one score is better than another, or whether nobody can tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from espdl_quantize.core import Verdict
from espdl_quantize.stats._interval import LEVEL, bootstrap_mean, newcombe, normal_mean
from espdl_quantize.stats._mcnemar import mcnemar_exact
from espdl_quantize.stats._replicates import replicated_interval


@dataclass(frozen=True)
class Comparison:
    """One score held against another, as the metric's direction counts it.

    Attributes:
        verdict: of the first against the second.
        difference: of the first less the second, in the metric's units.
        low: lower end of the difference's 95 % interval; None where the test gives none.
        high: upper end.
        p: of the test; None where it gives an interval alone.
        test: which one it was.
        samples: how many both were measured on.
        paired: whether it knows both results of every sample.
    """

    verdict: Verdict
    difference: float
    low: float | None
    high: float | None
    p: float | None
    test: str
    samples: int
    paired: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def compare_vectors(first: Any, second: Any, scale: float, *, higher: bool) -> Comparison:
    """Compare two results on the same samples, pair by pair.

    Where both hold nothing but 0 and 1, the verdict is the exact McNemar test's. Else it is that of
    the bootstrap interval of the mean difference.

    Args:
        first: a float array [samples].
        second: the same samples in the same order.
        scale: from the mean of a vector to the metric, such as 100 for a percentage.
        higher: whether more is better.
    """
    difference = first - second
    mean = float(difference.mean()) * scale
    count = len(first)
    if not difference.any():
        return Comparison(Verdict.WITHIN_NOISE, 0.0, 0.0, 0.0, 1.0, "equal results", count, True)
    p: float | None = None
    if _is_binary(first) and _is_binary(second):
        # For the eye alone: the verdict is the test's.
        interval = normal_mean(difference).scaled(scale)
        wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
        p = mcnemar_exact(wins, losses)
        sure, test = p < 1 - LEVEL, "McNemar, exact"
    else:
        interval = bootstrap_mean(difference).scaled(scale)
        sure = interval.low > 0 or interval.high < 0
        test = f"paired {interval.method}"
    verdict = _verdict(mean, sure=sure, higher=higher)
    return Comparison(verdict, mean, interval.low, interval.high, p, test, count, True)


def compare_replicates(
    first: Any, second: Any, difference: float, samples: int, *, higher: bool
) -> Comparison | None:
    """Compare two values of a metric by what both come to on the same resamples.

    Args:
        first: a float array [draws].
        second: of the same draws.
        difference: of the metric itself, the first less the second.
        samples: how many were drawn from.
        higher: whether more is better.

    Returns:
        The verdict of the interval of the difference; None where there are too few draws.
    """
    draws = min(len(first), len(second))
    apart = first[:draws] - second[:draws]
    interval = replicated_interval(apart)
    if interval is None:
        return None
    if difference == 0 and interval.low == interval.high == 0:
        return Comparison(Verdict.WITHIN_NOISE, 0.0, 0.0, 0.0, 1.0, "equal results", samples, True)
    sure = interval.low > 0 or interval.high < 0
    return Comparison(
        _verdict(difference, sure=sure, higher=higher),
        difference,
        interval.low,
        interval.high,
        None,
        "paired bootstrap of the metric",
        samples,
        True,
    )


def compare_rates(
    first: float, first_count: int, second: float, second_count: int, *, scale: float, higher: bool
) -> Comparison:
    """Compare two rates of which nothing but the number of samples is known.

    Args:
        first: the rate, in the metric's units.
        first_count: its samples.
        second: the other one.
        second_count: its samples.
        scale: from a fraction to the metric, such as 100 for a percentage.
        higher: whether more is better.
    """
    interval = newcombe(first / scale, first_count, second / scale, second_count).scaled(scale)
    sure = interval.low > 0 or interval.high < 0
    return Comparison(
        _verdict(first - second, sure=sure, higher=higher),
        first - second,
        interval.low,
        interval.high,
        None,
        "Newcombe, not paired",
        min(first_count, second_count),
        False,
    )


def _verdict(difference: float, *, sure: bool, higher: bool) -> Verdict:
    if not sure or difference == 0:
        return Verdict.WITHIN_NOISE
    return Verdict.BETTER if (difference > 0) == higher else Verdict.WORSE


def _is_binary(values: Any) -> bool:
    return bool(((values == 0) | (values == 1)).all())
