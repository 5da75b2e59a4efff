"""Target, plateau, and what "worse by x %" means."""

from __future__ import annotations

import math

from espdl_quantize.core import Verdict
from espdl_quantize.record import History, Iteration, signals_that_count
from espdl_quantize.search._thresholds import Thresholds

_ROUNDING = 1e-9
"""Slack for the last bits of a float, so that a loss of exactly the limit counts as within it."""


def relative_loss(history: History, iteration: Iteration, best: Iteration) -> float:
    """Return the loss of an iteration to best, relative to best; infinite where it failed."""
    if iteration.value is None or best.value is None:
        return math.inf
    loss, height = history.height(best) - history.height(iteration), abs(history.height(best))
    if loss == 0:
        return 0.0
    return loss / height if height else math.copysign(math.inf, loss)


def target_reached(history: History, target: float | None) -> Iteration | None:
    """Return the best of the iterations that reach the target and keep the budgets."""
    best = history.best
    if best is None or not history.meets(best, target):
        return None
    return best if history.keeps_budgets(best) else None


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
    last = history.effective[-limits.plateau_window :]
    limit = limits.plateau_relative * (1 + _ROUNDING)
    quiet = outputs_settled(history, limits)
    flat = all(
        relative_loss(history, iteration, top) <= limit
        or (quiet and history.is_chance(iteration, best))
        for iteration in last
    )
    return last if flat and len(last) == limits.plateau_window else ()


def outputs_settled(history: History, limits: Thresholds) -> bool:
    """Tell whether the noise at the outputs is known and no longer falls.

    It falls where one of the last iterations has less of it than every earlier one, sample by
    sample and beyond chance.
    """
    known = [iteration for iteration in history.scored if _noise(iteration) is not None]
    window = {iteration.id for iteration in history.effective[-limits.plateau_window :]}
    before = [iteration for iteration in known if iteration.id not in window]
    last = [iteration for iteration in known if iteration.id in window]
    if not before or len(last) < limits.plateau_window:
        return False
    lowest = min(before, key=lambda iteration: (_noise(iteration) or 0.0, iteration.id))
    comparisons = [history.noise.compare_signal(iteration, lowest) for iteration in last]
    return all(
        item is not None and Verdict(item.verdict) is not Verdict.BETTER for item in comparisons
    )


def _noise(iteration: Iteration) -> float | None:
    signals = signals_that_count(iteration)
    return None if signals is None else signals.noise_signal


def both_last_worse(history: History) -> bool:
    """Tell whether the last two iterations scored below best, beyond noise where it is known."""
    best, last = history.best, history.effective[-2:]
    if best is None or len(last) < 2:
        return False
    return all(
        iteration.value is not None
        and relative_loss(history, iteration, best) > 0
        and not history.is_chance(iteration, best)
        for iteration in last
    )
