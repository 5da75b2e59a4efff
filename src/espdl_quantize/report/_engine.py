"""Which engine did what."""

from __future__ import annotations

from collections import Counter

from espdl_quantize.record import History

_SHOWN = 6


def engine_of(history: History) -> str:
    """Name the engines of all iterations, and those that plain esp-ppq did parts of; empty where
    no iteration says which it was."""
    engines = Counter(record.engine for record in history.iterations if record.engine is not None)
    if not engines:
        return ""
    names = [record.name for record in history.iterations if record.engine_fallbacks]
    if not names:
        return ", ".join(engines)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"{', '.join(engines)}; plain esp-ppq did what the fast engine failed at in "
        f"{', '.join(names[:_SHOWN])}{more}"
    )


def engine_warnings(history: History) -> list[str]:
    """Say of each iteration what plain esp-ppq did for the fast engine."""
    return [
        f"{record.name}: the fast engine failed, and plain esp-ppq did instead: "
        + "; ".join(str(fallback) for fallback in record.engine_fallbacks)
        for record in history.iterations
        if record.engine_fallbacks
    ]
