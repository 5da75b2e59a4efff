"""Reads what of a setting really ran."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.errors import SettingError
from espdl_quantize.history._iteration import Iteration
from espdl_quantize.history._values import integer, read_any
from espdl_quantize.setting import Setting, parse_setting

DEFAULT_BITS = 8


@dataclass(frozen=True)
class Applied:
    """The setting after the target's rules, and the default width it ran with."""

    setting: Setting | None
    num_of_bits: int = DEFAULT_BITS


def load_applied(iteration: Iteration) -> Applied:
    """Read applied_setting_summary.json; without it, the setting counts as it was asked for."""
    summary, problem = read_any(iteration.folder / "applied_setting_summary.json")
    if problem is not None or not isinstance(summary, dict):
        return Applied(iteration.setting)
    target = summary.get("target")
    bits = integer(target.get("num_of_bits")) if isinstance(target, dict) else None
    resolved = summary.get("resolved_setting")
    try:
        setting = parse_setting(resolved) if isinstance(resolved, dict) else iteration.setting
    except SettingError:
        setting = iteration.setting
    return Applied(setting, bits if bits in (8, 16) else DEFAULT_BITS)
