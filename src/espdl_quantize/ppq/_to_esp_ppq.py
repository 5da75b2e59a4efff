"""From a resolved :class:`Setting` to esp-ppq's own QuantizationSetting."""

from __future__ import annotations

from typing import Any

from espdl_quantize.setting import Setting, enabled_passes, nearest


def to_esp_ppq(setting: Setting, target: str, num_of_bits: int) -> tuple[Any, list[str]]:
    """Translate a resolved setting.

    Args:
        setting: resolved, so that only what can run is enabled.
        target: a chip name that esp-ppq accepts.
        num_of_bits: the contract's default width.

    Returns:
        esp-ppq's ``QuantizationSetting``, and a warning per ``extra`` attribute that it lacks.
    """
    from esp_ppq.api import get_target_platform
    from esp_ppq.api.setting import QuantizationSettingFactory

    result = QuantizationSettingFactory.espdl_setting(num_of_bits=num_of_bits)
    if setting.calib_algorithm is not None:
        result.quantize_activation_setting.calib_algorithm = setting.calib_algorithm
    for spec, section in enabled_passes(setting):
        setattr(result, spec.field, True)
        parameters = getattr(result, spec.parameters)
        for field, value in section.model_dump(exclude={"enabled"}).items():
            if value is not None:
                setattr(parameters, field, value)
    if setting.fusion_alignment is not None:
        for field, value in setting.fusion_alignment.model_dump(exclude_none=True).items():
            setattr(result.fusion_setting, field, value)
    # esp-ppq fills the table with examples, which would be written into reports as if they ran.
    result.dispatching_table.dispatchings.clear()
    for entry in setting.dispatching_table or []:
        result.dispatching_table.append(entry.op, get_target_platform(target, entry.bits))
    warnings = []
    for name, value in (setting.extra or {}).items():
        if not _set_dotted(result, name, value):
            close = nearest(name, [key for key in vars(result) if not key.startswith("_")])
            hint = f"; did you mean {close!r}?" if close else ""
            warnings.append(f"extra.{name} is no attribute of QuantizationSetting: skipped{hint}")
    return result, warnings


def _set_dotted(target: Any, path: str, value: Any) -> bool:
    """Set ``a.b.c`` where it exists; a dict given for a group of attributes sets each of them."""
    *parents, last = path.split(".")
    for part in parents:
        target = vars(target).get(part) if hasattr(target, "__dict__") else None
    if not hasattr(target, "__dict__") or last not in vars(target):
        return False
    current = getattr(target, last)
    if isinstance(value, dict) and hasattr(current, "__dict__"):
        found = [_set_dotted(current, key, inner) for key, inner in value.items()]
        return all(found)
    setattr(target, last, value)
    return True
