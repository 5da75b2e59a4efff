"""One form per meaning: settings that quantize alike have equal canonical forms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from espdl_quantize.setting._model import DEFAULT_BITS, Setting, calibration_of
from espdl_quantize.setting.passes import PASSES, enabled_passes

_DEFAULT_ALIGNMENT: dict[str, Any] = {
    "align_avgpooling_to": "None",
    "align_elementwise_to": "Align to Output",
    "align_concat_to": "Align to Output",
    "align_resize_to": "Align to Output",
    "force_alignment_overlap": False,
}
"""What esp-ppq aligns by default: ``QuantizationSettingFactory.espdl_setting``."""

_BY_NAME = ("calib_algorithm_per_layer", "weight_calib_algorithm_per_layer", "metadata")
_PLAIN = ("percentile", "weight_calib_algorithm", "int16_tables", "model_version")


def canonical(setting: Setting, num_of_bits: int = DEFAULT_BITS) -> dict[str, Any]:
    """Return what ``setting`` changes, without iteration_id, rationale and what is off.

    Sections that are disabled or say nothing are dropped, and so is what restates esp-ppq's
    default. Sections that are on hold every field, and lists whose order has no meaning are sorted.

    Args:
        setting: any setting.
        num_of_bits: the contract's width, which says what a calibration or width
            that is not named is.
    """
    calibration = calibration_of(setting, num_of_bits)
    form: dict[str, Any] = {"calib_algorithm": calibration}
    for field in _BY_NAME:
        value = getattr(setting, field)
        if field == "calib_algorithm_per_layer" and value:
            value = {op: algorithm for op, algorithm in value.items() if algorithm != calibration}
        if value:
            form[field] = dict(sorted(value.items()))
    for field in _PLAIN:
        value = getattr(setting, field)
        if value is not None and value is not False:
            form[field] = value
    if setting.width is not None and setting.width != num_of_bits:
        form["width"] = setting.width
    for spec, section in enabled_passes(setting):
        fields = section.model_dump(exclude={"enabled", "collecting_device"})
        if fields["interested_layers"] is not None:
            fields["interested_layers"] = sorted(set(fields["interested_layers"]))
        form[spec.field] = fields
    if setting.fusion_alignment is not None:
        stated = setting.fusion_alignment.model_dump(exclude_none=True)
        aligned = {key: value for key, value in stated.items() if value != _DEFAULT_ALIGNMENT[key]}
        if aligned:
            form["fusion_alignment"] = aligned
    if setting.dispatching_table:
        widths = {entry.op: entry.bits for entry in setting.dispatching_table}
        form["dispatching_table"] = dict(sorted(widths.items()))
    if setting.tensor_bits:
        tensors = {f"{entry.op} {entry.tensor}": entry.bits for entry in setting.tensor_bits}
        form["tensor_bits"] = dict(sorted(tensors.items()))
    if setting.streaming is not None:
        form["streaming"] = setting.streaming.model_dump(exclude_none=True)
    extra = _without_restated(setting.extra or {}, form)
    if extra:
        form["extra"] = extra
    return form


def _without_restated(extra: Mapping[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of ``extra`` by their dotted paths, less those that change nothing."""
    aligned = {**_DEFAULT_ALIGNMENT, **form.get("fusion_alignment", {})}
    held = {f"fusion_setting.{key}": value for key, value in aligned.items()}
    held["quantize_activation_setting.calib_algorithm"] = form["calib_algorithm"]
    return {
        path: value
        for path, value in _dotted(extra)
        if path not in held or type(held[path]) is not type(value) or held[path] != value
    }


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
