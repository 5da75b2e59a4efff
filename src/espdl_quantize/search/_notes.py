"""What a reader of the next step may miss: why a leg is still owed, and when all is won."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.record import History, Iteration
from espdl_quantize.search._crashes import Crashes
from espdl_quantize.search._describe import describe_change, score
from espdl_quantize.search._legs import LEGS, Leg, covered_legs, leg
from espdl_quantize.search.phase5 import calibration
from espdl_quantize.setting import Change, diff


def near_misses(history: History) -> Iterator[str]:
    """Name what keeps a calibration with training from being its leg of the sweep."""
    covered = covered_legs(history)
    for name in LEGS:
        if name in covered:
            continue
        for row in history.iterations:
            if _is_near(row, name):
                yield f"{row.name} does not cover the {name} leg: {_differences(row, name)}"


def crash_notes(history: History) -> Iterator[str]:
    """Say which passes crashed, and what is left out of the next settings for it."""
    for crashed in Crashes(history).passes:
        yield crashed.reason


def nothing_to_gain(history: History) -> Iterator[str]:
    """Say so where the best is as good as the float model."""
    best = history.best
    if best is None:
        return
    reference = history.float_value(best)
    if reference is None or history.gap_to(best, reference) > 0:
        return
    yield (
        f"{score(history, best)}, the float model {reference:.6g}: quantization loses nothing on "
        "these images, so nothing is left to gain; more or harder images would tell more"
    )


def _is_near(row: Iteration, name: Leg) -> bool:
    tqt = row.setting.tqt_optimization if row.setting is not None else None
    return (
        row.setting is not None
        and tqt is not None
        and tqt.enabled
        and calibration(row.setting) == name
    )


def _differences(row: Iteration, name: Leg) -> str:
    assert row.setting is not None
    return "; ".join(_difference(change) for change in diff(leg(name), row.setting))


def _difference(change: Change) -> str:
    if change.before is None:
        return f"it has {describe_change(change).lstrip('+')}, the leg has not"
    return f"{change.path} is {change.after}, the leg has {change.before}"
