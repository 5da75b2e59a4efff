"""Axes along which a setting can be pushed, and which pushes have lost before."""

from __future__ import annotations

from espdl_quantize.record import History, Iteration
from espdl_quantize.setting import PASSES, Setting, diff, int16_ops, split_layers

_NUMERIC = frozenset(
    f"{name}.{knob.field}"
    for name, spec in PASSES.items()
    for knob in spec.knobs
    if not knob.is_choice
)
_SPLIT = PASSES["weight_split"].layers_field


def escalations(setting: Setting, history: History) -> list[tuple[Iteration, str, str]]:
    """Find the axes on which ``setting`` goes further than a step that lost.

    Only steps that changed one thing count: of several, none can be blamed.

    Returns:
        The iteration that lost, what was found, and the hint.
    """
    best = history.best
    if best is None or best.setting is None:
        return []
    found = []
    for row in history.iterations:
        prior = history.prior_best[row.id]
        if prior is None or prior.setting is None or row.setting is None:
            continue
        gain = history.gain(row)
        if gain is None or gain >= 0:
            continue
        axis = _single_step(prior.setting, row.setting)
        if axis is None:
            continue
        told = _beyond(axis, prior.setting, row.setting, best.setting, setting)
        if told:
            found.append(
                (
                    row,
                    f"{told}, though {row.name} went that way and lost {-gain:.4g}",
                    f"leave {axis} as {best.name} has it and change something else",
                )
            )
    return found


def _single_step(before: Setting, after: Setting) -> str | None:
    """Return the axis of a step along just one."""
    paths = {change.path for change in diff(before, after)}
    if paths == {"dispatching_table"} and _grew(set(int16_ops(before)), set(int16_ops(after))):
        return "dispatching_table"
    if paths == {_SPLIT}:
        return _SPLIT
    return paths.pop() if len(paths) == 1 and paths <= _NUMERIC else None


def _beyond(axis: str, before: Setting, lost: Setting, best: Setting, new: Setting) -> str:
    """Say how far ``new`` goes beyond the step that lost; empty where it does not."""
    if axis in ("dispatching_table", _SPLIT):
        members = int16_ops if axis == "dispatching_table" else split_layers
        if _grew(set(members(lost)), set(members(new))) and not set(members(best)) >= set(
            members(lost)
        ):
            return f"{axis} grows to {len(members(new))} ops"
        return ""
    values = [_value(axis, setting) for setting in (before, lost, best, new)]
    if any(value is None for value in values):
        return ""
    start, bad, now, then = (float(value) for value in values if value is not None)
    sign = 1 if bad > start else -1
    if sign * then > sign * bad > sign * now:
        return f"{axis} {now:g} -> {then:g}"
    return ""


def _value(axis: str, setting: Setting) -> float | None:
    name, field = axis.split(".")
    section = getattr(setting, name)
    return getattr(section, field) if section is not None and section.enabled else None


def _grew(before: set[str], after: set[str]) -> bool:
    return bool(before) and before < after
