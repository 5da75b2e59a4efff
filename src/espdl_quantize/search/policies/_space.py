"""All settings that the sampling policies draw from, as independent choices per field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from espdl_quantize.core import SettingError
from espdl_quantize.search._legs import DEFAULT_TQT, LEGS
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.setting import (
    PASSES,
    Dispatch,
    Setting,
    baseline,
    canonical,
    parse_setting,
)

OFF = "null"
FIELDS = ("calib_algorithm", *PASSES, "fusion_alignment", "dispatching_table", "extra")

_TQT = {"lr": (1e-5, 2e-5, 5e-5), "steps": (500, 1000, 2000), "block_size": (2, 4)}
_WORST_OPS = 3


def encode(setting: Setting) -> dict[str, str]:
    """Return the value of every field as JSON text; "null" for what is off."""
    form = canonical(setting)
    return {name: json.dumps(form.get(name), sort_keys=True) for name in FIELDS}


def decode(choice: Mapping[str, str]) -> Setting | None:
    """Return the setting of one choice per field; None where they exclude each other."""
    payload: dict[str, Any] = {"iteration_id": 0}
    for name, text in choice.items():
        value = json.loads(text)
        if value is None:
            continue
        if name in PASSES:
            value = {"enabled": True, **value}
        elif name == "dispatching_table":
            value = [{"op": op, "bits": bits} for op, bits in value.items()]
        payload[name] = value
    try:
        return parse_setting(payload)
    except SettingError:
        return None


def space(context: PolicyContext) -> dict[str, tuple[str, ...]]:
    """Return the choices per field: those of the pool and the history, or else common ones, too."""
    settings = [row.setting for row in context.history.iterations if row.setting is not None]
    settings += context.pool if context.pool is not None else list(_common(context))
    choices: dict[str, dict[str, None]] = {name: {} for name in FIELDS}
    for setting in settings:
        for name, value in encode(setting).items():
            choices[name].setdefault(value)
    return {name: tuple(sorted(values)) or (OFF,) for name, values in choices.items()}


def distance(one: Mapping[str, str], other: Mapping[str, str]) -> int:
    """Return in how many fields two choices differ."""
    return sum(one[name] != other[name] for name in FIELDS)


def _common(context: PolicyContext) -> Iterator[Setting]:
    """Yield settings whose fields span the space: single levers, schedules and int16 sets."""
    plain = baseline(num_of_bits=context.situation.options.width)
    for calibration in (*LEGS, "minmax"):
        yield plain.model_copy(update={"calib_algorithm": calibration})
    for lr, steps, block_size in product(*_TQT.values()):
        update = {"lr": lr, "steps": steps, "block_size": block_size}
        yield plain.model_copy(update={"tqt_optimization": DEFAULT_TQT.model_copy(update=update)})
    worst = [op for op, _ in context.evidence.worst(_WORST_OPS)]
    for count in range(1, len(worst) + 1):
        table = [Dispatch(op=op, bits=16) for op in worst[:count]]
        yield plain.model_copy(update={"dispatching_table": table})
    lever_context = context.situation.context
    if lever_context is not None:
        for lever in LEVERS.values():
            if lever.applies(lever_context).applies:
                yield lever.change(lever_context)
