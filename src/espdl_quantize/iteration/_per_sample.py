"""What a score rests on: how many samples, which of them were right, and whether it is a rate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.contract import QuantConfig
from espdl_quantize.core import IterationError, MetricUnit
from espdl_quantize.iteration._signals import SignalMeter, Watcher
from espdl_quantize.record import Signals
from espdl_quantize.record.files import SAMPLES
from espdl_quantize.stats import DIGEST, write_arrays

PER_SAMPLE = "per_sample"
"""Key of the result of each sample, in the dict that an evaluation returns."""

RECORDS = "records"
"""Who says how many samples there are, where aggregate() makes the metric of their records."""

SAMPLE_COUNT = "sample_count"
"""Key of the number of samples, for an evaluation that has no result per sample."""

SCALES = {MetricUnit.PERCENT: 100.0, MetricUnit.FRACTION: 1.0}
"""From a fraction to the metric, by the contract's metric_unit."""

NEAR = 1e-4
"""Relative difference of two numbers that are the same one, rounded for display."""


@dataclass(frozen=True)
class ScoreFacts:
    """What a score rests on, in the fields of an :class:`espdl_quantize.record.IterationRecord`."""

    sample_count: int | None = None
    sample_count_from: str | None = None
    metric_unit: MetricUnit | None = None
    per_sample_scale: float | None = None
    samples_seen: int | None = None
    samples_shared_with_calibration: int | None = None
    signals: Signals | None = None
    final_by: str | None = None
    model_sha256: str | None = None
    draw: int | None = None
    samples_shared_with_search: int | None = None


def take_vector(returned: Mapping[Any, Any], used: str) -> Any:
    """Return the result of each sample as an array [samples]; None where there is none.

    Raises:
        IterationError: there is one, and it is no vector of finite numbers.
    """
    import numpy as np

    given = returned.get(PER_SAMPLE)
    if given is None:
        return None
    for method in ("detach", "cpu"):
        given = getattr(given, method, lambda given=given: given)()
    try:
        vector = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.ndim != 1 or len(vector) < 2 or not np.isfinite(vector).all():
        shown = f"an array of shape {list(vector.shape)}" if vector.size else repr(given)[:80]
        raise IterationError(
            f"{used}() returned {PER_SAMPLE} = {shown}, expected one finite number per sample",
            "return a list or a 1-D array: 1 for a sample that came out right and 0 for one that "
            "did not, or its loss",
        )
    return vector


def take_records(returned: Mapping[Any, Any], used: str) -> list[Any] | None:
    """Return the record of each sample, of any shape; None where there are none.

    Raises:
        IterationError: there is something else.
    """
    given = returned.get(PER_SAMPLE)
    if given is None:
        return None
    try:
        records = list(given)
    except TypeError:
        records = []
    if len(records) < 2 or isinstance(given, (str, bytes, Mapping)):
        raise IterationError(
            f"{used}() returned {PER_SAMPLE} = {given!r:.80}, expected a list of records",
            "return a list with whatever aggregate() needs of each sample, two samples at least",
        )
    return records


def take_count(returned: Mapping[Any, Any], used: str) -> int | None:
    """Return the number of samples that an evaluation states; None where it states none.

    Raises:
        IterationError: it states something else.
    """
    given = returned.get(SAMPLE_COUNT)
    if given is None:
        return None
    count = given.item() if hasattr(given, "item") else given
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise IterationError(
            f"{used}() returned {SAMPLE_COUNT} = {given!r}, expected a positive int",
            "return the number of samples that were scored",
        )
    return count


def score_facts(
    value: float,
    vector: Any,
    stated: int | None,
    watcher: Watcher | None,
    calibration: Collection[bytes],
    config: QuantConfig,
    records: int = 0,
) -> tuple[ScoreFacts, list[str]]:
    """Say what a score rests on.

    Args:
        value: of the primary metric.
        vector: the result of each sample, if the evaluation gave any.
        stated: the number of samples that it stated, if any.
        watcher: what was seen of it.
        calibration: digests of the calibration samples.
        config: names the metric's unit, if it is a rate.
        records: of how many samples there are records that aggregate() has made the metric of.

    Returns:
        The facts, and warnings.
    """
    seen = len(watcher.digests) if watcher else 0
    count, source = stated, "stated" if stated else None
    if vector is not None:
        count, source = len(vector), PER_SAMPLE
    elif count is None and seen:
        count, source = seen, "seen"
    scale, unit, warnings = _scale(value, vector, config)
    if records:
        # Not the unit of a rate: such a metric is no mean of rights and wrongs.
        count, source, unit = records, RECORDS, None
    if vector is None and unit is not None and count is not None:
        hits = value / SCALES[unit] * count
        if not 0 <= value <= SCALES[unit] or (source == "seen" and abs(hits - round(hits)) > 0.01):
            warnings.append(
                f"{config.primary_metric} {value:.6g} is not the share of a whole number of the "
                f"{count} samples, so it has no interval: return {SAMPLE_COUNT} or {PER_SAMPLE}"
            )
            unit = None
    shared = watcher.shared_with(calibration) if watcher else 0
    if shared:
        warnings.append(
            f"{shared} of the {seen} samples that were scored are calibration samples: the score "
            "is not of held-out data; take them out of create_calib_dataloader() or out of the "
            "evaluation"
        )
    signals = watcher.summary() if isinstance(watcher, SignalMeter) else None
    if isinstance(watcher, SignalMeter) and watcher.misses_most:
        warnings.append(
            f"only {watcher.compared} of the {seen} samples that were scored are known from the "
            "float model's score, so nothing is said of the noise at the outputs: the inputs of "
            "the others differ, as where the evaluation changes a state before it hands it on, or "
            "draws samples at random"
        )
    facts = ScoreFacts(
        sample_count=count,
        sample_count_from=source,
        metric_unit=unit,
        per_sample_scale=scale,
        samples_seen=seen or None,
        samples_shared_with_calibration=shared if seen else None,
        signals=signals,
    )
    return facts, warnings


def _scale(
    value: float, vector: Any, config: QuantConfig
) -> tuple[float | None, MetricUnit | None, list[str]]:
    """Return the factor from the vector's mean to the metric, the unit of a rate, and warnings.

    The unit is the contract's. Without it, it is known where each sample is right or wrong (1 or 0)
    and their share is the metric, as it is or in percent; it is never guessed from a metric's name
    or size.
    """
    unit = None if config.metric_unit is None else MetricUnit(config.metric_unit)
    if vector is None:
        return None, unit, []
    mean = float(vector.mean())
    fitting = [
        name
        for name, factor in SCALES.items()
        if abs(mean * factor - value) <= NEAR * max(abs(value), abs(mean * factor))
    ]
    binary = bool(((vector == 0) | (vector == 1)).all())
    if unit in fitting:
        return SCALES[unit], unit if binary else None, []
    if unit is None and len(fitting) == 1:
        return SCALES[fitting[0]], fitting[0] if binary else None, []
    if unit is None and fitting:
        return None, None, []
    return (
        None,
        None,
        [
            f"the mean of {PER_SAMPLE} is {mean:.6g}, which is not {config.primary_metric} "
            f"{value:.6g}{f' in {unit}' if unit else ' or its hundredth'}: verdicts go by the "
            f"mean of {PER_SAMPLE}, and the metric has no interval"
        ],
    )


def write_samples(
    folder: Path, vector: Any, watcher: Watcher | None, replicates: Any = None, digests: Any = None
) -> None:
    """Write samples.npz where there is anything to write."""
    import numpy as np

    arrays: dict[str, Any] = watcher.arrays() if isinstance(watcher, SignalMeter) else {}
    if vector is not None:
        arrays["results"] = vector
        if watcher is not None and len(watcher.digests) == len(vector):
            digests = np.frombuffer(b"".join(watcher.digests), np.uint8)
            arrays["result_digests"] = digests.reshape(-1, DIGEST)
    if replicates is not None:
        arrays["replicates"] = replicates
        if digests is not None:
            arrays["result_digests"] = digests
    if arrays:
        write_arrays(folder / SAMPLES, arrays)
