"""The kinds of change between two settings, which gains are learned for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from espdl_quantize.setting import PASSES, Change, Setting, diff, int16_ops, split_layers

_SWITCHES = (*PASSES, "fusion_alignment", "extra")


@dataclass(frozen=True)
class Feature:
    """One kind of change.

    Attributes:
        family: what it has in common with others, such as "int16".
        name: exactly what it is, such as "int16 /conv1".
        sign: 1 for on, added or more; -1 for the way back.
    """

    family: str
    name: str
    sign: int = 1


def features(before: Setting, after: Setting) -> tuple[Feature, ...]:
    """Take the step from ``before`` to ``after`` apart."""
    found: list[Feature] = []
    for change in diff(before, after):
        if change.path == "dispatching_table":
            found += _ops("int16", int16_ops(before), int16_ops(after)) or [Feature("int16", "8")]
        elif change.path == "calib_algorithm":
            found.append(Feature("calib", f"calib {change.after}"))
            found.append(Feature("calib", f"calib {change.before}", -1))
        elif change.path == PASSES["weight_split"].layers_field:
            found += _ops("split", split_layers(before), split_layers(after))
        else:
            found.append(_feature(change))
    return tuple(found)


def _feature(change: Change) -> Feature:
    path, before, after = change.path, change.before, change.after
    if path in _SWITCHES and (before is None or after is None):
        return Feature(path, path, -1 if after is None else 1)
    if _is_number(before) and _is_number(after):
        return Feature(path, path, 1 if after > before else -1)
    return Feature(path, f"{path} {after}")


def _ops(family: str, before: tuple[str, ...], after: tuple[str, ...]) -> list[Feature]:
    added = [Feature(family, f"{family} {op}") for op in after if op not in before]
    return added + [Feature(family, f"{family} {op}", -1) for op in before if op not in after]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
