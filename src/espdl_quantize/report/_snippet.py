"""A setting as a few lines of Python that need esp-ppq alone."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from typing import Any

from espdl_quantize.report._escape import plain, python_literal
from espdl_quantize.setting import PASSES, Setting

_HOLDERS = {name: spec.parameters for name, spec in PASSES.items()}
"""Each switch of esp-ppq's QuantizationSetting and the attribute with its parameters; names from
esp_ppq/api/setting.py of esp-ppq 1.3.12."""


def python_snippet(setting: Setting, target: str, num_of_bits: int = 8) -> str:
    """Write the code that builds the same QuantizationSetting.

    Args:
        setting: as it was applied.
        target: the chip's name.
        num_of_bits: the contract's default width.
    """
    return "\n".join(_lines(setting, target, num_of_bits)) + "\n"


def _lines(setting: Setting, target: str, num_of_bits: int) -> Iterator[str]:
    if setting.dispatching_table:
        yield "from esp_ppq.api import get_target_platform"
    yield "from esp_ppq.api.setting import QuantizationSettingFactory"
    yield ""
    yield f"setting = QuantizationSettingFactory.espdl_setting(num_of_bits={num_of_bits:d})"
    if setting.calib_algorithm is not None:
        yield _assign("quantize_activation_setting.calib_algorithm", setting.calib_algorithm)
    for name, holder in _HOLDERS.items():
        section = getattr(setting, name)
        if section is None or not section.enabled:
            continue
        yield ""
        yield _assign(name, True)
        for field, value in section.model_dump(exclude={"enabled"}).items():
            if field == "collecting_device" and value is None:
                yield f"{_assign(f'{holder}.{field}', 'cpu')}  # or 'cuda', where there is a GPU"
            elif value is not None:
                yield _assign(f"{holder}.{field}", value)
    if setting.fusion_alignment is not None:
        aligned = setting.fusion_alignment.model_dump(exclude_none=True)
        if aligned:
            yield ""
        for field, value in aligned.items():
            yield _assign(f"fusion_setting.{field}", value)
    if setting.dispatching_table:
        yield ""
        for entry in setting.dispatching_table:
            platform = f"get_target_platform({python_literal(target)}, {entry.bits})"
            yield f"setting.dispatching_table.append({python_literal(entry.op)}, {platform})"
    if setting.extra:
        yield ""
        yield from _extra("", setting.extra)


def _assign(path: str, value: Any) -> str:
    return f"setting.{path} = {python_literal(value)}"


def _extra(prefix: str, values: dict[str, Any]) -> Iterator[str]:
    """Write further attributes; a dict given for a group sets each attribute of the group."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in path.split(".")):
            yield f"# skipped, no attribute name: {plain(python_literal(path))}"
        elif isinstance(value, dict) and path.endswith("_setting"):
            yield from _extra(f"{path}.", value)
        else:
            yield _assign(path, value)
