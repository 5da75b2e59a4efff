"""Reads what of a setting really ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.core import SettingError
from espdl_quantize.record._iteration import Iteration
from espdl_quantize.record._values import read_any, width
from espdl_quantize.setting import DEFAULT_BITS, Setting, parse_setting

SUMMARY = "applied_setting_summary.json"


@dataclass(frozen=True)
class Applied:
    """The setting after the target's rules, and the default width it ran with."""

    setting: Setting | None
    num_of_bits: int = DEFAULT_BITS


def load_applied(iteration: Iteration) -> Applied:
    """Read applied_setting_summary.json; without it, the setting counts as it was asked for."""
    summary, problem = read_any(iteration.folder / SUMMARY)
    if problem is not None or not isinstance(summary, dict):
        return Applied(iteration.setting, iteration.num_of_bits or DEFAULT_BITS)
    bits = _width_in(summary) or iteration.num_of_bits
    resolved = summary.get("resolved_setting")
    try:
        setting = parse_setting(resolved) if isinstance(resolved, dict) else iteration.setting
    except SettingError:
        setting = iteration.setting
    return Applied(setting, bits or DEFAULT_BITS)


def applied_width(folder: Path) -> int | None:
    """Return the default width that an iteration ran with; None where its folder is silent."""
    summary, problem = read_any(folder / SUMMARY)
    return None if problem is not None or not isinstance(summary, dict) else _width_in(summary)


def _width_in(summary: Mapping[str, Any]) -> int | None:
    target = summary.get("target")
    return width(target.get("num_of_bits")) if isinstance(target, dict) else None
