"""The formulas, with scipy as the oracle."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle  # type: ignore[import-untyped]

from espdl_quantize.stats import (
    bootstrap_mean,
    compare_rates,
    compare_vectors,
    mcnemar_exact,
    newcombe,
    student_mean,
    wilson,
)
from tests.there import there


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 1), (9, 21), (400, 330), (0, 60)])
def test_mcnemar_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    expected = oracle.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar_exact(wins, losses) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (1, 2), (524, 640), (735, 1000)])
def test_wilson(hits: Any, count: int) -> None:
    expected = oracle.binomtest(hits, count).proportion_ci(method="wilson")
    found = wilson(hits, count)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_newcombe_gives_the_example_of_its_paper() -> None:
    # R. G. Newcombe (1998), table II, row (a), method 10: 56/70 - 48/80.
    found = newcombe(56 / 70, 70, 48 / 80, 80)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("count", [40, 4000])
def test_the_interval_of_a_mean(count: int) -> None:
    values: Any = np.random.default_rng(1).exponential(2.0, count)
    half = 1.96 * values.std(ddof=1) / count**0.5
    found = bootstrap_mean(values)
    assert found.method == ("bootstrap" if count < 2000 else "normal")
    assert found.low == pytest.approx(values.mean() - half, abs=0.3 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.3 * half)
    assert found == bootstrap_mean(values)


@pytest.mark.parametrize("count", [2, 5, 31])
def test_student(count: int) -> None:
    values = np.random.default_rng(2).normal(size=(count,)).tolist()
    low, high = oracle.t.interval(0.95, count - 1, np.mean(values), oracle.sem(values))
    found = student_mean(values)
    assert (found.low, found.high) == pytest.approx((low, high), rel=2e-3)


def right(count: int, rate: float, seed: int) -> Any:
    return (np.random.default_rng(seed).random(count) < rate).astype(float)


def test_the_verdict_of_right_and_wrong_is_mcnemars() -> None:
    base = right(1000, 0.8, 0)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:30]] = 1
    found = compare_vectors(better, base, 100.0, higher=True)
    assert found.verdict == "better"
    assert found.difference == pytest.approx(3.0)
    assert found.test == "McNemar, exact"
    assert there(found.low) < 3.0 < there(found.high)
    assert compare_vectors(base, better, 100.0, higher=True).verdict == "worse"
    assert compare_vectors(base, better, 100.0, higher=False).verdict == "better"
    # Five against none: p is 1/16.
    few = base.copy()
    few[np.flatnonzero(base == 0)[:5]] = 1
    assert compare_vectors(few, base, 100.0, higher=True).verdict == "within noise"
    assert compare_vectors(base, base, 100.0, higher=True).p == 1.0


def test_pairs_see_what_two_rates_alone_do_not() -> None:
    base = right(640, 0.8, 3)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:12]] = 1
    assert compare_vectors(better, base, 1.0, higher=True).verdict == "better"
    rates = better.mean(), base.mean()
    alone = compare_rates(rates[0], 640, rates[1], 640, scale=1.0, higher=True)
    assert (alone.verdict, alone.paired) == ("within noise", False)
    assert compare_rates(90.0, 640, 60.0, 640, scale=100.0, higher=True).verdict == "better"
    assert compare_rates(90.0, 640, 60.0, 640, scale=100.0, higher=False).verdict == "worse"


def test_a_loss_per_sample_is_compared_by_the_bootstrap() -> None:
    base = np.random.default_rng(4).exponential(1.0, 300)
    found = compare_vectors(base * 0.9, base, 1.0, higher=False)
    assert (found.verdict, found.test) == ("better", "paired bootstrap")
    noise = np.random.default_rng(5).normal(0, 1, 300)
    assert (
        compare_vectors(base + noise - noise.mean(), base, 1.0, higher=False).verdict
        == "within noise"
    )


def test_five_in_a_hundred_comparisons_of_equals_are_wrong_at_most() -> None:
    found = [
        compare_vectors(right(200, 0.8, seed), right(200, 0.8, other), 1.0, higher=True).verdict
        for seed, other in pairwise(range(301))
    ]
    assert sum(verdict != "within noise" for verdict in found) <= 0.07 * len(found)
