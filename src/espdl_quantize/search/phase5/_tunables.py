"""Parameters of the passes that best has on: advice only, no part of coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from espdl_quantize.setting import Setting, canonical


@dataclass(frozen=True)
class Tunable:
    """One parameter: where it is, what best has, and what is common."""

    path: str
    current: Any
    common: str


_COMMON = {
    "tqt_optimization": {
        "lr": "1e-6 to 5e-5; 1e-4 was seen to lose accuracy",
        "steps": "500 to 2000; 4000 was seen to lose accuracy",
        "block_size": "2 to 5; smaller is steadier",
    },
    "blockwise_reconstruction": {
        "lr": "1e-4 to 1e-3",
        "steps": "1000 to 10000",
        "block_size": "2 to 6",
    },
    "equalization": {
        "opt_level": "1 (single branches) or 2 (across Add and Sub)",
        "iterations": "1, 3, 10, 100",
        "value_threshold": "0.5 or 2",
    },
    "bias_correct": {"block_size": "1 to 4; smaller is finer", "steps": "8 to 64"},
    "weight_split": {"value_threshold": "1.5 to 2.0"},
}
"""Ranges from the comments of esp-ppq's setting.py and from tuning runs."""


def tunables(setting: Setting) -> tuple[Tunable, ...]:
    """List the parameters of every pass that is on."""
    form = canonical(setting)
    found = [
        Tunable(f"{name}.{field}", form[name][field], common)
        for name, fields in _COMMON.items()
        if name in form
        for field, common in fields.items()
    ]
    for key, value in form.get("fusion_alignment", {}).items():
        if key != "force_alignment_overlap":
            single = key in ("align_resize_to", "align_avgpooling_to")
            choice = "Align to Input" if single else "Align to Large"
            common = f"None, {choice}, Align to Output"
            if key == "align_elementwise_to":
                common = "Align to Output alone: the chip adds raw integers"
            found.append(Tunable(f"fusion_alignment.{key}", value, common))
    if form["calib_algorithm"] == "percentile":
        found.append(
            Tunable("percentile", 0.9999, "0.999 to 0.99999; esp-ppq's observer, no setting field")
        )
    return tuple(found)
