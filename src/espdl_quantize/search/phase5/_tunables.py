"""Parameters of the passes that best has on: advice only, no part of coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from espdl_quantize.setting import Setting, canonical, enabled_passes


@dataclass(frozen=True)
class Tunable:
    """One parameter: where it is, what best has, and what is common."""

    path: str
    current: Any
    common: str


def tunables(setting: Setting) -> tuple[Tunable, ...]:
    """List the parameters of every pass that is on."""
    form = canonical(setting)
    found = [
        Tunable(f"{spec.field}.{knob.field}", form[spec.field][knob.field], knob.advice)
        for spec, _ in enabled_passes(setting)
        for knob in spec.knobs
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
