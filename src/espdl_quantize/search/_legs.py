"""Phase 2: each calibration together with the default TQT schedule."""

from __future__ import annotations

from typing import Literal

from espdl_quantize.record import History
from espdl_quantize.search._crashes import Crashes, leaves_out_crashed_layers
from espdl_quantize.setting import Setting, TqtOptimization, canonical

Leg = Literal["kl", "mse", "percentile"]

LEGS: tuple[Leg, ...] = ("kl", "mse", "percentile")
"""Calibrations of the sweep, in the order they run."""

DEFAULT_TQT = TqtOptimization(
    enabled=True,
    lr=1e-5,
    steps=500,
    block_size=4,
    is_scale_trainable=True,
    gamma=0.0,
    int_lambda=0.0,
)
"""esp-ppq's own TQT schedule (``TQTSetting`` in esp_ppq/api/setting.py)."""


def leg(calibration: Leg, iteration_id: int = 0, rationale: str = "") -> Setting:
    """Return the setting of one leg: a calibration, the default TQT, and nothing else."""
    return Setting(
        iteration_id=iteration_id,
        rationale=rationale,
        calib_algorithm=calibration,
        tqt_optimization=DEFAULT_TQT,
    )


def leg_of(setting: Setting, history: History | None = None) -> Leg | None:
    """Return the leg that ``setting`` is, exactly; any other pass or schedule makes it none.

    Args:
        setting: the setting.
        history: where it is given, a leg whose training leaves out the layers of a crash on record
            is that leg, too.
    """
    form = canonical(setting)
    if history is not None and leaves_out_crashed_layers(setting, history):
        form = {**form, "tqt_optimization": {**form["tqt_optimization"], "interested_layers": None}}
    return next((name for name in LEGS if canonical(leg(name)) == form), None)


def missing_leg(history: History) -> Leg | None:
    """Return the next leg that no iteration covers and that no crash bars.

    A failed iteration covers its leg.
    """
    return next(iter(missing_legs(history)), None)


def missing_legs(history: History) -> list[Leg]:
    """Return the legs that are left to run, in their order."""
    covered, crashes = covered_legs(history), Crashes(history)
    return [name for name in LEGS if name not in covered and bars_leg(crashes, name) is None]


def bars_leg(crashes: Crashes, calibration: Leg) -> str | None:
    """Say why a leg is not to be run for a pass that crashed; None where it is."""
    return crashes.bars(crashes.without_crashed_layers(leg(calibration)))


def covered_legs(history: History) -> set[Leg]:
    """Return the legs that were run, whatever came of them."""
    found = {leg_of(row.setting, history) for row in history.iterations if row.setting is not None}
    return {name for name in found if name is not None}


def legs_complete_after(history: History) -> int | None:
    """Return how many iterations it took until no leg was left to run; None while one is."""
    left = set(LEGS)
    for count, row in enumerate(history.iterations, start=1):
        if row.setting is not None:
            found = leg_of(row.setting, history)
            if found is not None:
                left.discard(found)
        if row.failure is not None and row.failure.failed_pass is not None:
            crashes = Crashes(history.upto(count))
            left -= {name for name in left if bars_leg(crashes, name) is not None}
        if not left:
            return count
    return None
