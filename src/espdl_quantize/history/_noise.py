"""What is known of the noise of the scores, read from the iterations' folders when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from espdl_quantize.history._iteration import Direction, Iteration
from espdl_quantize.stats import (
    Comparison,
    Interval,
    Samples,
    align,
    bootstrap_mean,
    compare_rates,
    compare_vectors,
    noise_as_results,
    read_samples,
    wilson,
)

_SCALES = {"percent": 100.0, "fraction": 1.0}


@dataclass
class Noise:
    """Reads each folder's samples once, and compares each pair of iterations once.

    A history and what is cut from it share one; a history that is read anew gets a new one.
    """

    _samples: dict[int, Samples] = field(default_factory=dict)
    _pairs: dict[tuple[int, int, str], Comparison | None] = field(default_factory=dict)
    _intervals: dict[int, Interval | None] = field(default_factory=dict)

    def interval(self, row: Iteration) -> Interval | None:
        """Return the 95 % interval of a score in the metric's units; None where it is unknown.

        Wilson's where the score is a rate, that of the bootstrap where it is the mean of something
        else of each sample.
        """
        if row.id not in self._intervals:
            self._intervals[row.id] = self._interval(row)
        return self._intervals[row.id]

    def compare(self, row: Iteration, other: Iteration, direction: Direction) -> Comparison | None:
        """Hold the score of ``row`` against that of ``other``; None where no noise is known."""
        key = (row.id, other.id, "metric")
        if key not in self._pairs:
            self._pairs[key] = self._compare(row, other, direction == "max")
        return self._pairs[key]

    def compare_signal(self, row: Iteration, other: Iteration) -> Comparison | None:
        """Hold the noise at the outputs of ``row`` against that of ``other``; less is better."""
        if row.signals is None or other.signals is None:
            return None
        key = (row.id, other.id, "signal")
        if key not in self._pairs:
            pair = align(*(noise_as_results(self._read(one)) for one in (row, other)))
            self._pairs[key] = None if pair is None else compare_vectors(*pair, 1.0, False)
        return self._pairs[key]

    def _interval(self, row: Iteration) -> Interval | None:
        scale = _SCALES.get(row.metric_unit or "")
        if row.value is None:
            return None
        if scale is not None and row.sample_count:
            rate = min(max(row.value / scale, 0.0), 1.0)
            return wilson(rate * row.sample_count, row.sample_count).scaled(scale)
        if row.per_sample_scale is not None:
            results = self._read(row).results
            if results is not None:
                return bootstrap_mean(results).scaled(row.per_sample_scale)
        return None

    def _compare(self, row: Iteration, other: Iteration, higher: bool) -> Comparison | None:
        if row.value is None or other.value is None or row.evaluated_by != other.evaluated_by:
            return None
        if row.has_samples and other.has_samples:
            pair = align(self._read(row), self._read(other))
            if pair is not None:
                return compare_vectors(*pair, row.per_sample_scale or 1.0, higher)
        scale = _SCALES.get(row.metric_unit or "")
        counts = row.sample_count, other.sample_count
        if scale is None or row.metric_unit != other.metric_unit or not all(counts):
            return None
        return compare_rates(
            row.value, counts[0] or 1, other.value, counts[1] or 1, scale=scale, higher=higher
        )

    def _read(self, row: Iteration) -> Samples:
        if row.id not in self._samples:
            self._samples[row.id] = read_samples(row.folder)
        return self._samples[row.id]
