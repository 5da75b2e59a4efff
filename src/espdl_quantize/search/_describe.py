"""Settings, changes and evidence in words, for rationales, advice and reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from espdl_quantize.record import Evidence, History, Iteration
from espdl_quantize.search._ranking import ranked_value
from espdl_quantize.setting import PASSES, Change, Setting, canonical, diff


def ratio(value: float | None) -> str:
    """Write a noise:signal ratio or another small number."""
    return "unknown" if value is None else f"{value:.4g}"


def describe_score(history: History, iteration: Iteration) -> str:
    """Write what an iteration is ranked by, with the name of the metric or signal."""
    value = ranked_value(history, iteration)
    if iteration.is_without_effect:
        return f"{iteration.name} had no effect, it is the same graph as iter_{iteration.same_as}"
    if value is None:
        return f"{iteration.name} failed"
    return f"{iteration.name} scored {history.metric or 'metric'} {value:.6g}"


def describe_change(change: Change) -> str:
    """Write one difference between two settings."""
    path, before, after = change.path, change.before, change.after
    if path == "dispatching_table":
        return _int16_words(before or {}, after or {})
    if path in PASSES or isinstance(after if before is None else before, dict):
        if before is None:
            return (
                f"+{path}({_parameters(path, after)})" if _parameters(path, after) else f"+{path}"
            )
        if after is None:
            return f"-{path}"
    return f"{path} {_short(before)} -> {_short(after)}"


def describe_changes(before: Setting | None, after: Setting | None) -> str:
    """Write what ``after`` changes; without ``before``, what it is."""
    if after is None:
        return "unknown (setting.json is not usable)"
    if before is None:
        return describe_setting(after)
    return "; ".join(describe_change(change) for change in diff(before, after)) or "no change"


def describe_setting(setting: Setting) -> str:
    """Write a whole setting in one line."""
    form = canonical(setting)
    words = [form.pop("calib_algorithm")]
    for name, value in form.items():
        words.append(describe_change(Change(name, None, value)).lstrip("+"))
    return " + ".join(words)


def cite(history: History, iteration: Iteration, evidence: Evidence) -> str:
    """Write the numbers of an iteration that a next step can be argued from."""
    parts = [describe_score(history, iteration)]
    worst = evidence.worst(3) or [
        (layer.op, layer.snr) for layer in iteration.top_5_error_layers[:3] if layer.snr is not None
    ]
    if worst:
        parts.append(f"worst layers {_pairs(worst)}")
    hot = [(f"{op.op} ({op.op_type})", op.max_snr) for op in evidence.hot_ops[:3]]
    if hot:
        parts.append(f"worst non-computing ops {_pairs(hot)}")
    return "; ".join(parts)


def _pairs(errors: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{op} {ratio(snr)}" for op, snr in errors)


def _parameters(path: str, value: dict[str, Any]) -> str:
    shown = (PASSES[path].shown if path in PASSES else ()) or tuple(value)
    return ", ".join(f"{name}={_short(value[name])}" for name in shown if name in value)


def _int16_words(before: dict[str, int], after: dict[str, int]) -> str:
    words = []
    for width, name in ((16, "int16"), ("w8a16", "w8a16")):
        old = [op for op, bits in before.items() if bits == width]
        new = [op for op, bits in after.items() if bits == width]
        added = [op for op in new if op not in old]
        removed = [op for op in old if op not in new]
        if added:
            words.append(f"+{name} on {_short(added)}")
        if removed:
            words.append(f"-{name} on {_short(removed)}")
    return ", ".join(words) or f"dispatching_table {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        named = ", ".join(str(item) for item in value[:3])
        return f"{named}, ... ({len(value)})" if len(value) > 3 else named
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_short(item)}" for name, item in list(value.items())[:3])
    return str(value)
