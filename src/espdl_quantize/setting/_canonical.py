"""One form per meaning: settings that quantize alike have equal canonical forms."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from espdl_quantize.setting._model import DEFAULT_BITS, Setting, default_calibration
from espdl_quantize.setting.passes import PASSES, enabled_passes


def canonical(setting: Setting, num_of_bits: int = DEFAULT_BITS) -> dict[str, Any]:
    """Return what ``setting`` changes, without iteration_id, rationale and what is off.

    Sections that are disabled or say nothing are dropped, sections that are on hold every field,
    and lists whose order has no meaning are sorted.

    Args:
        setting: any setting.
        num_of_bits: the contract's width, which says what a calibration that is not named is.
    """
    calibration = setting.calib_algorithm or default_calibration(num_of_bits)
    form: dict[str, Any] = {"calib_algorithm": calibration}
    for spec, section in enabled_passes(setting):
        fields = section.model_dump(exclude={"enabled", "collecting_device"})
        if fields["interested_layers"] is not None:
            fields["interested_layers"] = sorted(set(fields["interested_layers"]))
        form[spec.field] = fields
    if setting.fusion_alignment is not None:
        aligned = setting.fusion_alignment.model_dump(exclude_none=True)
        if aligned:
            form["fusion_alignment"] = aligned
    if setting.dispatching_table:
        widths = {entry.op: entry.bits for entry in setting.dispatching_table}
        form["dispatching_table"] = dict(sorted(widths.items()))
    if setting.extra:
        form["extra"] = setting.extra
    return form


def setting_key(setting: Setting, num_of_bits: int = DEFAULT_BITS) -> str:
    """Return a SHA-256 of the canonical form: equal for settings that quantize alike."""
    form = canonical(setting, num_of_bits)
    text = json.dumps(form, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Change:
    """One difference between two settings: a dotted path and the value on each side.

    A pass that is turned on or off is one change at the path of the pass, not one per field.
    """

    path: str
    before: Any
    after: Any


def diff(before: Setting, after: Setting) -> list[Change]:
    """List the differences in meaning from ``before`` to ``after``, in a fixed order."""
    old, new = canonical(before), canonical(after)
    changes = []
    for name in sorted({*old, *new}):
        left, right = old.get(name), new.get(name)
        if left == right:
            continue
        if name in PASSES and left is not None and right is not None:
            changes += [
                Change(f"{name}.{field}", left[field], right[field])
                for field in left
                if left[field] != right[field]
            ]
        else:
            changes.append(Change(name, left, right))
    return changes
