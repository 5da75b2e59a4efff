"""What is known of the noise of the scores, read from the iterations' folders when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from espdl_quantize.record._iteration import Direction, Iteration
from espdl_quantize.stats import (
    LEVEL,
    Comparison,
    Interval,
    Samples,
    align,
    bootstrap_mean,
    compare_rates,
    compare_vectors,
    mcnemar_exact,
    noise_as_results,
    read_samples,
    wilson,
)

_SCALES = {"percent": 100.0, "fraction": 1.0}

NOISE_MARGIN = 0.1
"""Share by which the noise at the outputs has to be less where it is not known of each sample."""


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

    def is_quieter(self, row: Iteration, other: Iteration) -> bool:
        """Tell whether ``row`` has less noise at its outputs than ``other``, beyond chance.

        Where the noise of each sample is known the paired difference has to be significant; else
        it has to be less by :data:`NOISE_MARGIN`.
        """
        mine = row.signals.noise_signal if row.signals is not None else None
        others = other.signals.noise_signal if other.signals is not None else None
        if mine is None or others is None:
            return mine is not None
        if mine >= others:
            return False
        found = self.compare_signal(row, other)
        if found is not None:
            return found.verdict == "better"
        return mine < others * (1 - NOISE_MARGIN)

    def is_chance_drop(self, row: Iteration, reference: float) -> bool:
        """Tell whether the float model's score is within noise of that of ``row``.

        The float model's result of each sample is not kept. Where both decide alike on a known
        share of the samples, the others are the most that can differ, and McNemar's test of that
        many is the sharpest there is; else it is Newcombe's interval, or that of ``row``.
        """
        scale, count = _SCALES.get(row.metric_unit or ""), row.sample_count
        if row.value is None:
            return False
        if scale is None or not count:
            interval = self.interval(row)
            return interval is not None and interval.low <= reference <= interval.high
        agreement = row.signals.agreement if row.signals is not None else None
        lost = round(abs(reference - row.value) / scale * count)
        differing = 0 if agreement is None else round((1 - agreement) * count)
        if differing >= lost > 0:
            won = (differing - lost) // 2
            return mcnemar_exact(won, lost + won) >= 1 - LEVEL
        found = compare_rates(row.value, count, reference, count, scale=scale, higher=True)
        return found.verdict == "within noise"

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
