"""Scores in the digits that they have, and in the words that suit the metric."""

from __future__ import annotations

import math
import re

from espdl_quantize.core import Direction, MetricUnit
from espdl_quantize.record import NO_LABELS, History, Iteration
from espdl_quantize.report._escape import number, plain

_MOST_DECIMALS = 6
_SCALES = {MetricUnit.PERCENT: 100.0, MetricUnit.FRACTION: 1.0}
_CLASSES = re.compile(
    r"(?<![a-z])(?:top[-_ ]?\d+|acc(?:uracy)?|f1)(?![a-z])"
    r"|^(?:top[-_ ]?\d+|class(?:ification)?)?[-_ ]?error[-_ ]?rate",
    re.IGNORECASE,
)
_NO_CLASSES = re.compile(
    r"pair|verif|retriev|recall|rank|embed|cosine|speaker|word|token|char|iou|ap\d*$|pck|landmark",
    re.IGNORECASE,
)
"""Metrics of vectors to compare, of texts, boxes or points, even where they are rates."""


def decimals(history: History) -> int | None:
    """Return how many decimals tell the scores apart; None where nothing is known of them.

    One sample more or less moves a rate by its resolution. Of any other score with an interval, a
    tenth of the interval's half is the last digit that means anything.
    """
    found = []
    for record in history.scored:
        scale = None if record.metric_unit is None else _SCALES.get(record.metric_unit)
        if scale is not None and record.sample_count:
            found.append(math.ceil(-math.log10(scale / record.sample_count)))
            continue
        interval = history.noise.interval(record)
        half = 0.0 if interval is None else (interval.high - interval.low) / 2
        if half > 0 and math.isfinite(half):
            found.append(math.ceil(-math.log10(half)) + 1)
    return min(max(0, *found), _MOST_DECIMALS) if found else None


def show_score(history: History, value: float | None, *, sign: bool = False) -> str:
    """Write a score, or a difference of two, rounded to what tells the scores apart."""
    places = decimals(history)
    if value is None or places is None or not math.isfinite(value):
        return number(value, sign=sign)
    # Of what is rounded to nothing, no sign is left.
    rounded = round(value, places) + 0.0
    return f"{rounded:+.{places}f}" if sign and rounded else f"{rounded:.{places}f}"


def decides_classes(history: History) -> bool:
    """Tell whether the largest of the outputs is what counts, as far as the metric says so.

    A score without labels has an agreement where the outputs are distributions, or were said to be
    classes.
    """
    best, metric = history.best, history.metric or ""
    if best is None:
        return False
    if best.evaluated_by == NO_LABELS:
        return any(name.startswith("agreement") for name in map(str, (metric, *best.metrics)))
    if _NO_CLASSES.search(metric):
        return False
    return best.metric_unit is not None or bool(_CLASSES.search(metric))


def loss_name(history: History) -> str:
    """Name what quantization costs: "the accuracy lost", or "the rmse added".

    Without labels nobody knows of an accuracy.
    """
    metric, best = plain(history.metric or "metric", 60), history.best
    if Direction(history.direction) is Direction.MIN:
        return f"the {metric} that quantization added"
    if decides_classes(history) and best is not None and best.evaluated_by != NO_LABELS:
        return "the accuracy lost to quantization"
    return f"the {metric} lost to quantization"


def came_back(history: History) -> str:
    """Say what became of a share of it."""
    return "is gone again" if Direction(history.direction) is Direction.MIN else "came back"


def held_out(history: History, record: Iteration | None) -> float | None:
    """Return the score on samples that took no part in the search; None where there is none."""
    final = None if record is None else history.finals.get(record.id)
    return None if final is None else final.score.value


def held_out_float(history: History) -> float | None:
    """Return the float model's score on the same samples."""
    final = None if history.best is None else history.finals.get(history.best.id)
    return None if final is None else final.score.float_value
