"""From a JSON payload to a :class:`Setting`, with every fault named."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from espdl_quantize.core import Command, Hint, Option, OutputFolderError, SettingError, read_json
from espdl_quantize.setting._model import Setting
from espdl_quantize.setting._section import nearest
from espdl_quantize.setting.esp_ppq_form import from_esp_ppq_form, is_esp_ppq_form


def parse_setting(payload: Mapping[str, Any]) -> Setting:
    """Validate a payload; it is not changed.

    Args:
        payload: the fields of a :class:`Setting`, or what esp-ppq's
            ``QuantizationSetting.to_json`` wrote, such as a quant_setting.json.

    Raises:
        SettingError: names every wrong field, what was found, and the nearest valid name.
    """
    for place, value in _numbers(payload, ""):
        # 1e400 is JSON, and Python reads it as infinity.
        if not math.isfinite(value):
            raise SettingError(
                f"the setting is not valid: {place!r} is {value}, no finite number",
                "give a number, or leave it out",
            )
    if is_esp_ppq_form(payload):
        payload = from_esp_ppq_form(payload)
    try:
        return Setting.model_validate(copy.deepcopy(dict(payload)))
    except ValidationError as error:
        faults = "; ".join(_describe(fault) for fault in error.errors())
        raise SettingError(
            f"the setting is not valid: {faults}", Hint(Command.SCHEMA, " has every field")
        ) from error


def load_setting(path: Path) -> Setting:
    """Read and validate a setting file.

    Raises:
        SettingError: the file is missing, not JSON, or not a valid setting.
    """
    try:
        payload = read_json(path)
    except OutputFolderError as error:
        hint = "fix the file" if path.is_file() else "give the path of a JSON setting"
        raise SettingError(error.cause, hint) from error
    if "next_step_hint" in payload:
        raise SettingError(f"{path} is a comparison, no setting", _setting_in(payload))
    return parse_setting(payload)


def _numbers(value: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _numbers(item, f"{place}.{number}")


def _setting_in(comparison: Mapping[str, Any]) -> str:
    """Say where the next setting is in a comparison.json."""
    hint = comparison["next_step_hint"]
    if isinstance(hint, dict) and "setting" in hint:
        return Hint(
            "the next setting in it is next_step_hint.setting; ",
            Command.COMPARE.of(Option.WRITE_NEXT.of("FILE")),
            " writes it to a file",
        )
    phase = hint.get("phase") if isinstance(hint, dict) else None
    return f"it holds no next setting, its phase is {phase}; write one by hand"


def _describe(fault: Any) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        valid = _fields_at(fault["loc"][:-1])
        close = nearest(str(fault["loc"][-1]), valid)
        hint = f"did you mean {close!r}?" if close else f"valid fields: {', '.join(valid)}"
        return f"unknown field {path!r}, {hint}"
    if fault["type"] == "missing":
        return f"field {path!r} is missing"
    return f"{path!r} is {fault['input']!r}: {fault['msg']}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Setting
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _section_of(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        section = _section_of(inner)
        if section is not None:
            return section
    return None
