"""Phase 2: the sweep of calibrations, each together with the default TQT schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from espdl_quantize.record import History, Iteration
from espdl_quantize.search._crashes import Crashes, leaves_out_crashed_layers
from espdl_quantize.search._describe import describe_change
from espdl_quantize.setting import Change, Setting, TqtOptimization, canonical, diff

SweepPoint = Literal["kl", "mse", "percentile"]

SWEEP: tuple[SweepPoint, ...] = ("kl", "mse", "percentile")
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


def sweep_setting(calibration: SweepPoint, iteration_id: int = 0, rationale: str = "") -> Setting:
    """Return the setting of one point: a calibration, the default TQT, and nothing else."""
    return Setting(
        iteration_id=iteration_id,
        rationale=rationale,
        calib_algorithm=calibration,
        tqt_optimization=DEFAULT_TQT,
    )


def sweep_point(setting: Setting, history: History | None = None) -> SweepPoint | None:
    """Return the point that ``setting`` is, exactly; any other pass or schedule makes it none.

    Args:
        setting: the setting.
        history: where it is given, a point whose training leaves out the layers of a crash on
            record is that point, too.
    """
    form = canonical(setting)
    if history is not None and leaves_out_crashed_layers(setting, history):
        form = {**form, "tqt_optimization": {**form["tqt_optimization"], "interested_layers": None}}
    return next((name for name in SWEEP if canonical(sweep_setting(name)) == form), None)


def missing_sweep(history: History) -> list[SweepPoint]:
    """Return the points that no iteration covers and that no crash bars, in their order.

    A failed iteration covers its point.
    """
    covered, crashes = covered_sweep(history), Crashes(history)
    return [name for name in SWEEP if name not in covered and bars_sweep(crashes, name) is None]


def bars_sweep(crashes: Crashes, calibration: SweepPoint) -> str | None:
    """Say why a point is not to be run for a pass that crashed; None where it is."""
    return crashes.bars(crashes.without_crashed_layers(sweep_setting(calibration)))


def covered_sweep(history: History) -> set[SweepPoint]:
    """Return the points that were run, whatever came of them."""
    settings = [
        iteration.setting for iteration in history.iterations if iteration.setting is not None
    ]
    points = {sweep_point(setting, history) for setting in settings}
    return {name for name in points if name is not None}


def sweep_complete_after(history: History) -> int | None:
    """Return how many iterations it took until no point was left to run; None while one is."""
    left = set(SWEEP)
    for count, iteration in enumerate(history.iterations, start=1):
        if iteration.setting is not None:
            point = sweep_point(iteration.setting, history)
            if point is not None:
                left.discard(point)
        if iteration.failure is not None and iteration.failure.failed_pass is not None:
            crashes = Crashes(history.upto(count))
            left -= {name for name in left if bars_sweep(crashes, name) is not None}
        if not left:
            return count
    return None


def near_misses(history: History) -> Iterator[str]:
    """Name what keeps a calibration with training from being its point of the sweep."""
    covered = covered_sweep(history)
    for name in SWEEP:
        if name in covered:
            continue
        for iteration in history.iterations:
            if _is_near(iteration, name):
                miss = f"{iteration.name} does not cover the {name} point of the sweep"
                yield f"{miss}: {_differences(iteration, name)}"


def _is_near(iteration: Iteration, name: SweepPoint) -> bool:
    setting = iteration.setting
    if setting is None or setting.tqt_optimization is None:
        return False
    return setting.tqt_optimization.enabled and canonical(setting)["calib_algorithm"] == name


def _differences(iteration: Iteration, name: SweepPoint) -> str:
    assert iteration.setting is not None
    return "; ".join(_difference(item) for item in diff(sweep_setting(name), iteration.setting))


def _difference(change: Change) -> str:
    if change.before is None:
        return f"it has {describe_change(change).lstrip('+')}, the sweep has not"
    return f"{change.path} is {change.after}, the sweep has {change.before}"
