"""The bootstrap of a metric that is no mean: of what it comes to on resampled samples.

Every score of the same samples is resampled by the same draws, so that the replicates of two of
them are pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from espdl_quantize.stats._interval import LEVEL, Interval

DRAWS = 2000
"""Resamples; the ends of a 95 % interval rest on the 50 outermost on either side."""

FEWEST = 200
"""With fewer replicates the ends of an interval rest on a handful of draws: there is none then."""

UNDEFINED = 0.05
"""Share of the draws on which a metric may be undefined, such as one without a single object."""

SECONDS = 60.0
"""After so many seconds no further resample is drawn, where :data:`FEWEST` are there."""

_SEED = 0
_CHUNK = 50


def draw_samples(count: int, draws: int = DRAWS) -> Iterator[Any]:
    """Yield the resamples of ``count`` samples: int arrays [up to 50, count] of their places.

    The same number of samples gives the same draws.
    """
    import numpy as np

    generator = np.random.default_rng(_SEED)
    for start in range(0, draws, _CHUNK):
        yield generator.integers(0, count, (min(_CHUNK, draws - start), count))


def replicate(
    aggregate: Callable[[Any], Any],
    records: Sequence[Any],
    *,
    draws: int = DRAWS,
    seconds: float = SECONDS,
) -> Any:
    """Return what a metric comes to on resampled samples.

    Args:
        aggregate: from the records of some samples to the metric. Where it has a method
            ``resampled(records, counts)``, that is given all records once and an int array
            [draws, samples] of how often each comes, and returns an array [draws].
        records: one per sample, at least two.
        draws: how many.
        seconds: after these no more are drawn.

    Returns:
        A float64 array [draws], fewer where the time is up. NaN where the metric is undefined on a
        resample.
    """
    import numpy as np

    resampled = getattr(aggregate, "resampled", None)
    begun, values = time.monotonic(), []
    for places in draw_samples(len(records), draws):
        if resampled is not None:
            shifted = places + np.arange(len(places))[:, None] * len(records)
            counts = np.bincount(shifted.ravel(), minlength=places.size).reshape(places.shape)
            values += [float(value) for value in resampled(records, counts)]
        else:
            for row in places:
                values.append(_value(aggregate, [records[at] for at in row]))
                if time.monotonic() - begun > seconds:
                    break
        if time.monotonic() - begun > seconds:
            break
    return np.array(values, np.float64)


def _value(aggregate: Callable[[Any], Any], records: list[Any]) -> float:
    try:
        return float(aggregate(records))
    except Exception:
        # Such as a class of which the resample has no sample.
        return float("nan")


def replicate_means(results: Any, draws: int = DRAWS) -> Any:
    """Return the mean of a float array [samples] on resampled samples, an array [draws]."""
    import numpy as np

    return np.concatenate([results[places].mean(1) for places in draw_samples(len(results), draws)])


def optimism(values: Sequence[float], replicates: Sequence[Any], *, higher: bool) -> float:
    """Return by how much the best of several scores is expected to look better than it is.

    The best of each resample is held against its own score on all samples: the first is what made
    it the best, the second stands for the truth. Of candidates that are all alike it
    finds about two thirds of what the choice gains: it is a lower bound, not a correction. Source:
    B. Efron, J. Am. Stat. Assoc. 78 (1983) 316, of the same for the choice of a rule.

    Args:
        values: of the metric on all samples, one per candidate.
        replicates: of each, on the same resamples.
        higher: whether more is better.

    Returns:
        Zero or more, in the metric's units.
    """
    import numpy as np

    draws = min(map(len, replicates))
    table = np.stack([one[:draws] for one in replicates]) * (1 if higher else -1)
    whole = np.asarray(values, np.float64) * (1 if higher else -1)
    known = np.isfinite(table).all(0)
    if not known.any():
        return 0.0
    best = table[:, known].argmax(0)
    gained = table[:, known].max(0) - whole[best]
    return max(float(gained.mean()), 0.0)


def replicated_interval(values: Any, level: float = LEVEL) -> Interval | None:
    """Return the interval of a metric by the percentiles of its replicates.

    It is None where they are too few, or the metric is undefined on too many of them. Source: B.
    Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    import numpy as np

    known = values[np.isfinite(values)]
    if len(known) < max(FEWEST, (1 - UNDEFINED) * len(values)):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), "bootstrap")
