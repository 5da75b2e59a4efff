"""``setting.json`` and ``applied_setting_summary.json``: what was asked for, and what ran."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.core import Json, SettingError, write_json
from espdl_quantize.record._values import read_any, text, width
from espdl_quantize.record.files import APPLIED, SETTING
from espdl_quantize.record.iteration_record import Iteration
from espdl_quantize.setting import DEFAULT_BITS, Setting, parse_setting

KEYS = {
    "resolved_setting": "the setting after the rules of the chip",
    "warnings": "what was changed or ignored, and why",
    "target": "what is known of the chip's quantizer, with the default width `num_of_bits`",
    "seed": "of every random generator",
    "esp_ppq_version": "of the esp-ppq that ran",
    "esp_ppq_setting": "the same setting as esp-ppq takes it",
}


@dataclass(frozen=True)
class Applied:
    """The setting after the target's rules, the width it ran with, and what ran otherwise."""

    setting: Setting | None
    num_of_bits: int = DEFAULT_BITS
    warnings: tuple[str, ...] = ()


def write_setting(folder: Path, setting: Setting) -> None:
    """Write setting.json: what was asked for, without what was left out.

    Raises:
        OSError: it cannot be written.
    """
    write_json(folder / SETTING, setting.model_dump(exclude_unset=True))


def read_setting(folder: Path) -> tuple[Setting | None, str | None]:
    """Read setting.json.

    Returns:
        The setting, None where it is of no use; and why it is not.
    """
    payload, problem = read_any(folder / SETTING)
    if problem is not None:
        return None, f"{SETTING} {problem}"
    if not isinstance(payload, dict):
        return None, f"{SETTING} holds a {type(payload).__name__}, expected an object"
    try:
        json.dumps(payload, ensure_ascii=False).encode()
        return parse_setting(payload), None
    except UnicodeEncodeError:
        return None, f"{SETTING} holds text that is not Unicode"
    except SettingError as error:
        return None, f"{SETTING}: {text(error.cause)}"


def write_applied(
    folder: Path,
    *,
    resolved: Setting,
    warnings: list[str],
    target: Json,
    seed: int,
    esp_ppq_version: str,
    esp_ppq_setting: Json,
) -> None:
    """Write applied_setting_summary.json.

    Args:
        folder: the iteration's.
        resolved: the setting after the target's rules.
        warnings: what was changed or ignored, and why.
        target: what is known of the chip's quantizer.
        seed: of every random generator.
        esp_ppq_version: of the esp-ppq that ran.
        esp_ppq_setting: the same setting as esp-ppq takes it.

    Raises:
        OSError: it cannot be written.
    """
    summary = {
        "resolved_setting": resolved.model_dump(exclude_none=True),
        "warnings": warnings,
        "target": target,
        "seed": seed,
        "esp_ppq_version": esp_ppq_version,
        "esp_ppq_setting": esp_ppq_setting,
    }
    write_json(folder / APPLIED, summary)


def load_applied(iteration: Iteration) -> Applied:
    """Read applied_setting_summary.json; without it, the setting counts as it was asked for."""
    summary, problem = read_any(iteration.folder / APPLIED)
    if problem is not None or not isinstance(summary, dict):
        return Applied(iteration.setting, iteration.num_of_bits or DEFAULT_BITS)
    bits = _width_in(summary) or iteration.num_of_bits
    resolved = summary.get("resolved_setting")
    try:
        setting = parse_setting(resolved) if isinstance(resolved, dict) else iteration.setting
    except SettingError:
        setting = iteration.setting
    warnings = summary.get("warnings")
    listed = warnings if isinstance(warnings, list) else []
    return Applied(setting, bits or DEFAULT_BITS, tuple(text(warning) or "" for warning in listed))


def applied_width(folder: Path) -> int | None:
    """Return the default width that an iteration ran with; None where its folder is silent."""
    summary, problem = read_any(folder / APPLIED)
    return None if problem is not None or not isinstance(summary, dict) else _width_in(summary)


def _width_in(summary: Mapping[str, Any]) -> int | None:
    target = summary.get("target")
    return width(target.get("num_of_bits")) if isinstance(target, dict) else None
