"""Confidence intervals of a rate, of a mean, and of the difference of two rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, stdev
from typing import Any

LEVEL = 0.95
"""Of every interval and, as 1 - LEVEL, of every test."""

RESAMPLES = 1000
"""Bootstrap draws: the ends of a 95 % interval rest on the 25 outermost on either side."""

LARGE = 2000
"""Samples from which on the mean is taken for normal, and no bootstrap is drawn."""

_SEED = 0


@dataclass(frozen=True)
class Interval:
    """The two ends, and how they were found: "wilson", "bootstrap", "normal", "student"."""

    low: float
    high: float
    method: str

    def scaled(self, factor: float) -> Interval:
        """Return it in other units, such as percent."""
        return Interval(self.low * factor, self.high * factor, self.method)


def wilson(successes: float, count: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a rate.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.

    Args:
        successes: how many of ``count`` succeeded.
        count: samples, at least one.
        level: of confidence.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, z2 = successes / count, z * z
    middle = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = z / (1 + z2 / count) * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count * count))
    return Interval(max(0.0, middle - half), min(1.0, middle + half), "wilson")


def newcombe(first: float, first_count: int, second: float, second_count: int) -> Interval:
    """Return the interval of ``first - second``, two rates of independent samples.

    Where both are of the same samples it is too wide, never too narrow in practice, since they
    agree on most. Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 873, method 10.

    Args:
        first: a rate.
        first_count: its samples.
        second: the other rate.
        second_count: its samples.
    """
    mine = wilson(first * first_count, first_count)
    other = wilson(second * second_count, second_count)
    below = math.hypot(first - mine.low, other.high - second)
    above = math.hypot(mine.high - first, second - other.low)
    return Interval(first - second - below, first - second + above, "newcombe")


def bootstrap_mean(values: Any, level: float = LEVEL) -> Interval:
    """Return the interval of a mean by the percentiles of resampled means.

    From LARGE samples on it is the normal one, which is then the same. Equal input gives equal
    output: the draws are seeded. Source: B. Efron and R. J. Tibshirani, An Introduction to the
    Bootstrap (1993), section 13.3.

    Args:
        values: a float array [samples], at least two.
        level: of confidence.
    """
    import numpy as np

    count = len(values)
    if count >= LARGE:
        return normal_mean(values, level)
    # Single precision is several times faster; of what is left of the mean, it is enough.
    middle = float(values.mean())
    means = _weights(count) @ (values - middle).astype(np.float32)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(middle + float(low), middle + float(high), "bootstrap")


def normal_mean(values: Any, level: float = LEVEL) -> Interval:
    """Return the interval of a mean that is taken for normal.

    Args:
        values: a float array [samples], at least two.
        level: of confidence.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = float(values.mean())
    half = z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(middle - half, middle + half, "normal")


@lru_cache(maxsize=2)
def _weights(count: int) -> Any:
    """Return how often each sample is in each draw, over the draw's size: [RESAMPLES, count]."""
    import numpy as np

    drawn = np.random.default_rng(_SEED).integers(0, count, (RESAMPLES, count))
    drawn += np.arange(RESAMPLES)[:, None] * count
    counts = np.bincount(drawn.ravel(), minlength=RESAMPLES * count)
    return counts.reshape(RESAMPLES, count).astype(np.float32) / count


_STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Quantile 0.975 of Student's t with 1 to 30 degrees of freedom."""


def student_mean(values: list[float]) -> Interval:
    """Return Student's 95 % interval of the mean of a few values, at least two."""
    freedom = len(values) - 1
    t = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else NormalDist().inv_cdf(0.975)
    middle, half = fmean(values), t * stdev(values) / math.sqrt(len(values))
    return Interval(middle - half, middle + half, "student")
