"""What the draws of the calibration data say of best, read from repeat/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espdl_quantize.core import OutputFolderError, read_json
from espdl_quantize.record import History
from espdl_quantize.report._escape import number as show
from espdl_quantize.setting import setting_key


def draw_lines(history: History) -> list[str]:
    """Say how far best's score moves with the calibration data, and how its rival's does."""
    best = history.best
    if best is None or best.setting is None:
        return []
    folder = history.folder / "repeat"
    lines = []
    summary = _read(folder / setting_key(best.setting)[:12] / "repeat.json")
    mean, spread = _number(summary.get("mean")), _number(summary.get("standard_deviation"))
    draws = summary.get("draws")
    if mean is not None and spread is not None and isinstance(draws, list):
        low, high = _number(summary.get("lowest")), _number(summary.get("highest"))
        lines.append(
            f"Over {len(draws)} draws of the calibration data the setting of {best.name} scores "
            f"{show(mean)} on average, standard deviation {spread:.3g}, from {show(low)} to "
            f"{show(high)}."
        )
    confirmed = _read(folder / "confirmed.json")
    found = confirmed.get("best_versus_rival")
    rival = confirmed.get("rival")
    if confirmed.get("best") == best.id and isinstance(rival, int) and isinstance(found, dict):
        difference, verdict = _number(found.get("mean_difference")), found.get("verdict")
        lines.append(
            f"On the same draws it is {verdict} against its nearest rival iter_{rival}: "
            f"{show(difference, sign=True)} on average (Student's test over the draws)."
        )
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except OutputFolderError:
        return {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
