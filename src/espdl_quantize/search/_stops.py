"""Target, plateau, and what "worse by x %" means."""

from __future__ import annotations

import math

from espdl_quantize.history import History, Iteration
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
    """
    best = history.best
    if best is None or len(history.scored) < limits.plateau_min_iterations:
        return ()
    last = history.iterations[-limits.plateau_window :]
    limit = limits.plateau_relative * (1 + _ROUNDING)
    flat = all(relative_loss(history, row, best) <= limit for row in last)
    return last if flat and len(last) == limits.plateau_window else ()


def both_last_worse(history: History) -> bool:
    """Tell whether the last two iterations scored below best."""
    best, last = history.best, history.iterations[-2:]
    if best is None or len(last) < 2:
        return False
    return all(row.value is not None and relative_loss(history, row, best) > 0 for row in last)
