"""McNemar's test in its exact form."""

from __future__ import annotations

import math


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p of two classifiers that were right on the same samples equally often.

    Of the samples that just one of the two got right, each went either way with a chance of one
    half: a binomial test. Source: Q. McNemar, Psychometrika 12 (1947) 153; exact form as in
    A. Agresti, Categorical Data Analysis, 3rd ed., section 11.1.2.

    Args:
        only_first: samples that the first got right and the second wrong.
        only_second: samples that the second got right and the first wrong.
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    if count == 0:
        return 1.0
    whole = math.lgamma(count + 1) - count * math.log(2)
    tail = math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(count - k + 1)) for k in range(fewer + 1)
    )
    return min(1.0, 2 * tail)
