"""Reads what esp-ppq's ``QuantizationSetting.to_json`` writes: AutoQuant's quant_setting.json.

What a :class:`Setting` has a field for becomes that field; what else differs from esp-ppq's default
for ESP-DL goes into ``extra``, by its dotted path; what esp-ppq itself does not know is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from espdl_quantize.core import SettingError
from espdl_quantize.setting._model import FusionAlignment, Setting
from espdl_quantize.setting._section import nearest
from espdl_quantize.setting.passes import PASSES, PassSpec

WIDTHS: Mapping[int, int | str] = {
    551: 8,
    552: 16,
    553: 8,
    554: 16,
    557: 8,
    558: 16,
    560: "w8a16",
    561: "w8a16",
    562: "w8a16",
}
"""Of an op, by the number of its platform: ESP-DL's in ``esp_ppq.core.TargetPlatform``."""

_ENUM = "__ppq_enum__"
_SHOWN = 10
_SIGNATURE = ("version", "signature")
_OWN = ("iteration_id", "rationale")
_ACTIVATIONS, _WEIGHTS = "quantize_activation_setting", "quantize_parameter_setting"
_ALIGNMENT, _TABLE = "fusion_setting", "dispatching_table"
_CALIBRATION, _PER_LAYER = "calib_algorithm", "calib_algorithm_per_layer"
_WITHOUT_A_NAME = "percentile"
"""What the ESP-DL quantizer calibrates activations of 8 bits with where none is named."""


def is_esp_ppq_form(payload: Mapping[str, Any]) -> bool:
    """Tell whether a payload has a key that esp-ppq's settings have and a Setting has not."""
    return any(key in payload for key in set(_defaults()) - set(Setting.model_fields))


def from_esp_ppq_form(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Setting that quantizes alike.

    What is missing is esp-ppq's default for ESP-DL. Parameters of a pass that is off are left out,
    and so is ``collecting_device`` where it is esp-ppq's own: it then follows the contract.

    Args:
        payload: what ``to_json`` wrote; ``iteration_id`` and ``rationale`` may stand beside it.

    Raises:
        SettingError: names every attribute that esp-ppq lacks, that has another type, or whose
            meaning a Setting cannot have.
    """
    faults = list(_faults(payload, _defaults(), ""))
    if faults:
        raise SettingError(
            f"this is no setting of esp-ppq: {'; '.join(faults[:_SHOWN])}"
            + (f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""),
            "save it anew by QuantizationSetting.to_json(), or leave out what is named",
        )
    differing = dict(_differing(payload, _defaults(), ""))
    fields: dict[str, Any] = {"iteration_id": 0}
    fields |= {key: payload[key] for key in _OWN if key in payload}
    for spec in (spec for spec in PASSES.values() if not spec.own):
        is_on = bool(payload.get(spec.field))
        section = dict(_section(payload.get(spec.parameters, {}), spec))
        if is_on:
            fields[spec.field] = {"enabled": True, **section}
        differing.pop(spec.field, None)
        for path in [path for path in differing if path.startswith(f"{spec.parameters}.")]:
            if not is_on or path.rpartition(".")[2] in spec.model.model_fields:
                del differing[path]
    fields |= _calibrations(payload, differing)
    alignment = {
        name: value
        for name in FusionAlignment.model_fields
        if (value := differing.pop(f"{_ALIGNMENT}.{name}", None)) is not None
    }
    if alignment:
        fields["fusion_alignment"] = alignment
    table = [
        {"op": op, "bits": WIDTHS[number]}
        for op, number in _entries(payload.get(_TABLE, {})).items()
    ]
    if table:
        fields[_TABLE] = table
    extra = {
        path: value
        for path, value in differing.items()
        if path not in _SIGNATURE and not path.startswith(f"{_TABLE}.")
    }
    if extra:
        fields["extra"] = extra
    return fields


@cache
def _defaults() -> dict[str, Any]:
    """Return ``QuantizationSettingFactory.espdl_setting()`` as esp-ppq 1.3.12 writes it."""
    file = resources.files("espdl_quantize.setting") / "esp_ppq_setting.json"
    defaults: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return defaults


def _section(given: Mapping[str, Any], spec: PassSpec) -> Iterator[tuple[str, Any]]:
    """Yield the parameters of a pass that its section has, esp-ppq's defaults among them."""
    defaults = _defaults()[spec.parameters]
    for name in spec.model.model_fields:
        if name in defaults:
            value = given.get(name, defaults[name])
            if name != "collecting_device" or value != defaults[name]:
                yield name, value


def _calibrations(payload: Mapping[str, Any], differing: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    activations, weights = payload.get(_ACTIVATIONS, {}), payload.get(_WEIGHTS, {})
    own = dict(activations.get(_PER_LAYER, {}))
    if _CALIBRATION in activations:
        fields["calib_algorithm"] = activations[_CALIBRATION] or _WITHOUT_A_NAME
        if activations[_CALIBRATION] is None:
            # Without a name an op of 16 bits has another default.
            entries = _entries(payload.get(_TABLE, {})).items()
            own = {op: "minmax" for op, number in entries if WIDTHS[number] != 8} | own
    if own:
        fields["calib_algorithm_per_layer"] = own
    if weights.get(_CALIBRATION) is not None:
        fields["weight_calib_algorithm"] = weights[_CALIBRATION]
    if weights.get(_PER_LAYER):
        fields["weight_calib_algorithm_per_layer"] = weights[_PER_LAYER]
    for group in (_ACTIVATIONS, _WEIGHTS):
        for path in [path for path in differing if path.startswith(f"{group}.{_CALIBRATION}")]:
            del differing[path]
    return fields


def _entries(table: Any) -> dict[str, Any]:
    """Return the entries of a dispatching table without esp-ppq's examples."""
    examples = _defaults()[_TABLE]["dispatchings"]
    given = table.get("dispatchings", {}) if isinstance(table, Mapping) else {}
    return {op: number for op, number in given.items() if examples.get(op, None) != number}


def _faults(given: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in given.items():
        path = f"{prefix}{name}"
        if not prefix and name in _OWN:
            continue
        if name not in known:
            close = nearest(name, known)
            yield f"esp-ppq has no {path!r}" + (f", did you mean {close!r}?" if close else "")
        elif path == _TABLE:
            yield from _table_faults(value)
        elif path in (f"{_ACTIVATIONS}.{_CALIBRATION}", f"{_WEIGHTS}.{_CALIBRATION}"):
            if value is not None and not isinstance(value, str):
                yield f"{path!r} is {value!r}, not a name or null"
        elif isinstance(known[name], Mapping) and _ENUM in known[name]:
            if value != known[name]:
                yield f"{path!r} is {value!r}: what ESP-DL reads needs {known[name]['name']}"
        elif isinstance(known[name], Mapping) and known[name]:
            if isinstance(value, Mapping):
                yield from _faults(value, known[name], f"{path}.")
            else:
                yield f"{path!r} is {value!r}, not an object"
        elif not _is_like(value, known[name]):
            yield f"{path!r} is {value!r}, not like esp-ppq's {known[name]!r}"


def _table_faults(table: Any) -> Iterator[str]:
    if not isinstance(table, Mapping) or not isinstance(table.get("dispatchings", {}), Mapping):
        yield f"{_TABLE!r} has no object 'dispatchings'"
        return
    for op, number in _entries(table).items():
        if isinstance(number, bool) or not isinstance(number, int) or number not in WIDTHS:
            yield (
                f"{_TABLE!r} sends {op!r} to platform {number!r}, which is no width of ESP-DL "
                f"({', '.join(map(str, WIDTHS))})"
            )


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, (int, float)):
        return isinstance(value, (int, float))
    if isinstance(default, list):
        # A list of ops may be null: all of them.
        return value is None or isinstance(value, list)
    if isinstance(default, Mapping):
        return isinstance(value, Mapping)
    return default is None or isinstance(value, type(default))


def _differing(
    given: Mapping[str, Any], known: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any]]:
    """Yield path and value of what is not the default; dictionaries of ops are whole."""
    for name, value in given.items():
        default = known.get(name)
        if isinstance(default, Mapping) and default and _ENUM not in default:
            yield from _differing(value, default, f"{prefix}{name}.")
        elif name in known and value != default:
            yield f"{prefix}{name}", value
