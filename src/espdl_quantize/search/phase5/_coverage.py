"""What open exploration has covered, and what it owes."""

from __future__ import annotations

from espdl_quantize.record import History
from espdl_quantize.search._legs import LEGS
from espdl_quantize.search.phase5._patterns import PATTERNS, patterns_by_iteration
from espdl_quantize.search.phase5._stack import calibration, lever_stack


def pattern_coverage(history: History, cutoff: int) -> dict[str, tuple[int, ...]]:
    """Return, per pattern, the iterations of phase 5 that made such a move.

    Args:
        history: all iterations.
        cutoff: the last iteration before phase 5 began; -1 if it never did.
    """
    if cutoff < 0:
        return dict.fromkeys(PATTERNS, ())
    found = patterns_by_iteration(history, cutoff)
    return {
        pattern: tuple(row for row, patterns in found.items() if pattern in patterns)
        for pattern in PATTERNS
    }


def calibrations_to_reapply(history: History, cutoff: int) -> tuple[str, ...]:
    """Return the calibrations whose verdict came from a shallower stack than best has today.

    A calibration counts where a 5beta move of phase 5 went to it on a strict subset of best's
    stack, and no iteration has had it on best's whole stack. A stack that is neither within
    best's nor around it says nothing either way.
    """
    best = history.best
    if best is None or best.setting is None or cutoff < 0:
        return ()
    deepest = lever_stack(best.setting)
    covered = pattern_coverage(history, cutoff)["5beta"]
    shallow, tested = set(), set()
    for row in history.iterations:
        if row.setting is None:
            continue
        stack = lever_stack(row.setting)
        if stack >= deepest:
            tested.add(calibration(row.setting))
        elif row.id in covered and stack < deepest:
            shallow.add(calibration(row.setting))
    return tuple(sorted(shallow - tested))


def untried_patterns(
    coverage: dict[str, tuple[int, ...]], reapply: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the patterns without an iteration; 5beta also while a calibration is owed."""
    return tuple(
        pattern for pattern in PATTERNS if not coverage[pattern] or (pattern == "5beta" and reapply)
    )


def untried_calib_swaps(history: History) -> tuple[str, ...]:
    """Return the calibrations of the sweep that no iteration has had on best's stack."""
    best = history.best
    if best is None or best.setting is None:
        return ()
    deepest = lever_stack(best.setting)
    tested = {
        calibration(row.setting)
        for row in history.iterations
        if row.setting is not None and lever_stack(row.setting) >= deepest
    }
    return tuple(name for name in LEGS if name not in tested)
