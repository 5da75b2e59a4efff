"""Target, plateau, and what "worse by x %" means."""

from __future__ import annotations

import math

from espdl_quantize.record import History, Iteration
from espdl_quantize.search._thresholds import Thresholds

_ROUNDING = 1e-9
"""Slack for the last bits of a float, so that a loss of exactly the limit counts as within it."""


def relative_loss(history: History, row: Iteration, best: Iteration) -> float:
    """Return how far ``row`` is behind ``best``, relative to best; infinite where it failed."""
    if row.value is None or best.value is None:
        return math.inf
    loss = history.height(best) - history.height(row)
    if loss == 0:
        return 0.0
    return loss / abs(best.value) if best.value else math.copysign(math.inf, loss)


def target_reached(history: History, target: float | None) -> Iteration | None:
    """Return the best of the iterations that reach the target."""
    best = history.best
    return best if best is not None and history.meets(best, target) else None


def plateau(history: History, limits: Thresholds) -> tuple[Iteration, ...]:
    """Return the last iterations where they are all flat against best, else nothing.

    Best may be among them. A failed iteration is not flat: it says nothing about the metric.

    Flat is what loses no more than the fixed limit. Where noise is known, so is a difference within
    it, however large it looks, as long as the noise at the outputs did not fall in these iterations
    either: it moves where the metric of a few hundred samples cannot show it.
    """
    best, top = history.best, history.top
    if best is None or top is None or len(history.scored) < limits.plateau_min_iterations:
        return ()
    last = history.iterations[-limits.plateau_window :]
    limit = limits.plateau_relative * (1 + _ROUNDING)
    settled = outputs_settled(history, limits)
    flat = all(
        relative_loss(history, row, top) <= limit or (settled and _is_chance(history, row, best))
        for row in last
    )
    return last if flat and len(last) == limits.plateau_window else ()


def outputs_settled(history: History, limits: Thresholds) -> bool:
    """Tell whether the noise at the outputs is known and no longer falls.

    It falls where one of the last iterations has less of it than every earlier one, sample by
    sample and beyond chance.
    """
    known = [row for row in history.scored if _noise(row) is not None]
    window = {row.id for row in history.iterations[-limits.plateau_window :]}
    before = [row for row in known if row.id not in window]
    last = [row for row in known if row.id in window]
    if not before or len(last) < limits.plateau_window:
        return False
    lowest = min(before, key=lambda row: (_noise(row) or 0.0, row.id))
    found = [history.noise.compare_signal(row, lowest) for row in last]
    return all(one is not None and one.verdict != "better" for one in found)


def _noise(row: Iteration) -> float | None:
    return None if row.signals is None else row.signals.noise_signal


def _is_chance(history: History, row: Iteration, best: Iteration) -> bool:
    found = history.versus(row, best)
    return row.id == best.id or (found is not None and found.verdict == "within noise")


def both_last_worse(history: History) -> bool:
    """Tell whether the last two iterations scored below best, beyond noise where it is known."""
    best, last = history.best, history.iterations[-2:]
    if best is None or len(last) < 2:
        return False
    return all(
        row.value is not None
        and relative_loss(history, row, best) > 0
        and not _is_chance(history, row, best)
        for row in last
    )
