"""What of the coverage that open exploration owes a setting would cover."""

from __future__ import annotations

from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.phase5 import Phase5Signals, calibration, classify, lever_stack
from espdl_quantize.setting import Setting


def covers(signals: Phase5Signals, base: Setting, setting: Setting) -> tuple[str, ...]:
    """Name the untried levers, patterns and calibrations that running ``setting`` would cover."""
    found = [name for name in signals.untried_phase3_levers if LEVERS[name].marks(setting)]
    owed = signals.untried_5beta_reapply
    reapplied = calibration(setting) in owed and lever_stack(setting) >= lever_stack(base)
    for pattern in signals.untried_phase5_patterns:
        # While a calibration is owed, any other swap leaves 5beta as it is.
        settles = reapplied if pattern == "5beta" and owed else True
        if settles and pattern in classify(base, setting):
            found.append(pattern)
    if reapplied:
        found.append(f"reapply {calibration(setting)}")
    return tuple(found)
