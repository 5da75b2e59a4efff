"""What is known of the noise of the scores, read from the iterations' folders when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from espdl_quantize.core import Direction, MetricUnit, Verdict
from espdl_quantize.record.files import SAMPLES
from espdl_quantize.record.iteration_record import Iteration, Signals
from espdl_quantize.stats import (
    LEVEL,
    Comparison,
    Interval,
    Samples,
    align,
    are_of_same_samples,
    bootstrap_mean,
    compare_rates,
    compare_replicates,
    compare_vectors,
    in_order,
    mcnemar_exact,
    noise_as_results,
    optimism,
    read_samples,
    replicate_means,
    replicated_interval,
    wilson,
)

_SCALES = {MetricUnit.PERCENT: 100.0, MetricUnit.FRACTION: 1.0}

NOISE_MARGIN = 0.1
"""Share by which the noise at the outputs has to be less where it is not known of each sample."""

SIGNAL_SAMPLES = 16
"""Samples of which the noise at the outputs has to be known before it decides anything: with fewer
than six pairs no sign test can reach 95 %, and a few samples are no picture of the others."""


def signals_that_count(record: Iteration) -> Signals | None:
    """Return the signals of an iteration; None where too few samples could be compared."""
    signals = record.signals
    return None if signals is None or signals.samples < SIGNAL_SAMPLES else signals


@dataclass
class Noise:
    """Reads each folder's samples once, and compares each pair of iterations once.

    A history and what is cut from it share one; a history that is read anew gets a new one.
    """

    _samples: dict[int, Samples] = field(default_factory=dict)
    _pairs: dict[tuple[int, int, str], Comparison | None] = field(default_factory=dict)
    _intervals: dict[int, Interval | None] = field(default_factory=dict)

    def interval(self, record: Iteration) -> Interval | None:
        """Return the 95 % interval of a score in the metric's units; None where it is unknown.

        Wilson's where the score is a rate, that of the bootstrap where it is the mean of something
        else of each sample.
        """
        if record.id not in self._intervals:
            self._intervals[record.id] = self._interval(record)
        return self._intervals[record.id]

    def compare(
        self, record: Iteration, other: Iteration, direction: Direction
    ) -> Comparison | None:
        """Hold the score of ``record`` against that of ``other``; None where no noise is known."""
        key = (record.id, other.id, "metric")
        if key not in self._pairs:
            self._pairs[key] = self._compare(record, other, higher=direction == Direction.MAX)
        return self._pairs[key]

    def compare_signal(self, record: Iteration, other: Iteration) -> Comparison | None:
        """Hold the noise at the outputs of ``record`` against that of ``other``; less is better."""
        if signals_that_count(record) is None or signals_that_count(other) is None:
            return None
        key = (record.id, other.id, "signal")
        if key not in self._pairs:
            pair = align(*(noise_as_results(self._read(each)) for each in (record, other)))
            self._pairs[key] = None if pair is None else compare_vectors(*pair, 1.0, higher=False)
        return self._pairs[key]

    def selection_bias(
        self, best: Iteration | None, records: tuple[Iteration, ...], direction: Direction
    ) -> float | None:
        """Return how much better ``best`` is expected to look for having been chosen.

        Args:
            best: the iteration that was chosen, if one was.
            records: those that it was chosen from, itself among them.
            direction: which way the metric goes.

        Returns:
            In the metric's units, zero or more; None where too little is known of each sample.
        """
        if best is None:
            return None
        first = in_order(self._read(best))
        values, replicates = [], []
        for record in records:
            samples = in_order(self._read(record))
            if (
                record.value is None
                or record.evaluated_by != best.evaluated_by
                or record.sample_count != best.sample_count
                or record.sample_count_from != best.sample_count_from
                or record.per_sample_scale != best.per_sample_scale
                or not are_of_same_samples(samples, first)
            ):
                return None
            if record.has_replicates and samples.replicates is not None:
                replicates.append(samples.replicates)
            elif record.per_sample_scale is not None and samples.results is not None:
                replicates.append(replicate_means(samples.results) * record.per_sample_scale)
            else:
                return None
            values.append(record.value)
        if len(values) < 2:
            return None
        return optimism(values, replicates, higher=direction == Direction.MAX)

    def is_quieter(self, record: Iteration, other: Iteration) -> bool:
        """Tell whether ``record`` has less noise at its outputs than ``other``, beyond chance.

        Where the noise of each sample is known the paired difference has to be significant; else
        it has to be less by :data:`NOISE_MARGIN`.
        """
        my_signals, other_signals = signals_that_count(record), signals_that_count(other)
        mine = None if my_signals is None else my_signals.noise_signal
        others = None if other_signals is None else other_signals.noise_signal
        if mine is None or others is None:
            return mine is not None
        if mine >= others:
            return False
        comparison = self.compare_signal(record, other)
        if comparison is not None:
            return comparison.verdict == Verdict.BETTER
        return mine < others * (1 - NOISE_MARGIN)

    def is_chance_drop(self, record: Iteration, reference: float) -> bool:
        """Tell whether the float model's score is within noise of that of ``record``.

        The float model's result of each sample is not kept. Where both decide alike on a known
        share of the samples, the others are the most that can differ, and McNemar's test of that
        many is the sharpest there is; else it is Newcombe's interval, or that of ``record``.
        """
        scale, count = _scale(record), record.sample_count
        if record.value is None:
            return False
        if scale is None or not count:
            interval = self.interval(record)
            return interval is not None and interval.low <= reference <= interval.high
        signals = signals_that_count(record)
        agreement = None if signals is None else signals.agreement
        missed = round(abs(reference - record.value) / scale * count)
        differing = 0 if agreement is None else round((1 - agreement) * count)
        if differing >= missed > 0:
            won = (differing - missed) // 2
            return mcnemar_exact(won, missed + won) >= 1 - LEVEL
        comparison = compare_rates(record.value, count, reference, count, scale=scale, higher=True)
        return comparison.verdict == Verdict.WITHIN_NOISE

    def _interval(self, record: Iteration) -> Interval | None:
        scale = _scale(record)
        if record.value is None:
            return None
        if record.has_replicates:
            replicates = self._read(record).replicates
            return None if replicates is None else replicated_interval(replicates)
        if scale is not None and record.sample_count:
            rate = min(max(record.value / scale, 0.0), 1.0)
            return wilson(rate * record.sample_count, record.sample_count).scaled(scale)
        if record.per_sample_scale is not None:
            results = self._read(record).results
            if results is not None:
                return bootstrap_mean(results).scaled(record.per_sample_scale)
        return None

    def _compare(self, record: Iteration, other: Iteration, *, higher: bool) -> Comparison | None:
        if record.value is None or other.value is None or record.evaluated_by != other.evaluated_by:
            return None
        if record.has_replicates and other.has_replicates:
            return self._compare_replicates(record, other, higher=higher)
        if record.has_samples and other.has_samples:
            pair = align(self._read(record), self._read(other))
            if pair is not None:
                return compare_vectors(*pair, record.per_sample_scale or 1.0, higher=higher)
        scale = _scale(record)
        counts = record.sample_count, other.sample_count
        if scale is None or record.metric_unit != other.metric_unit or not all(counts):
            return None
        return compare_rates(
            record.value, counts[0] or 1, other.value, counts[1] or 1, scale=scale, higher=higher
        )

    def _compare_replicates(
        self, record: Iteration, other: Iteration, *, higher: bool
    ) -> Comparison | None:
        mine, others = self._read(record), self._read(other)
        if mine.replicates is None or others.replicates is None:
            return None
        if record.sample_count != other.sample_count or not are_of_same_samples(mine, others):
            return None
        difference = (record.value or 0.0) - (other.value or 0.0)
        return compare_replicates(
            mine.replicates, others.replicates, difference, record.sample_count or 0, higher=higher
        )

    def _read(self, record: Iteration) -> Samples:
        if record.id not in self._samples:
            self._samples[record.id] = read_samples(record.folder / SAMPLES)
        return self._samples[record.id]


def _scale(record: Iteration) -> float | None:
    return None if record.metric_unit is None else _SCALES[record.metric_unit]
