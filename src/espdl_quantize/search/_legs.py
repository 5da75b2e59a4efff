"""Phase 2: each calibration together with the default TQT schedule."""

from __future__ import annotations

from typing import Literal

from espdl_quantize.history import History
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


def leg_of(setting: Setting) -> Leg | None:
    """Return the leg that ``setting`` is, exactly; any other pass or schedule makes it none."""
    form = canonical(setting)
    return next((name for name in LEGS if canonical(leg(name)) == form), None)


def missing_leg(history: History) -> Leg | None:
    """Return the next leg that no iteration covers; a failed iteration covers its leg."""
    covered = {leg_of(row.setting) for row in history.iterations if row.setting is not None}
    return next((name for name in LEGS if name not in covered), None)


def legs_complete_after(history: History) -> int | None:
    """Return how many iterations it took to cover every leg; None while one is missing."""
    missing = set(LEGS)
    for count, row in enumerate(history.iterations, start=1):
        if row.setting is not None:
            found = leg_of(row.setting)
            if found is not None:
                missing.discard(found)
        if not missing:
            return count
    return None
