"""What the sampling policies share: the space, and the way from a choice to a proposal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from espdl_quantize.core import Phase, SettingError
from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search._sweep import DEFAULT_TQT, SWEEP
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.search.levers.int16 import may_have_16_bits
from espdl_quantize.search.policies._rationale import complete
from espdl_quantize.setting import (
    PASSES,
    Dispatch,
    Setting,
    baseline,
    canonical,
    parse_setting,
    setting_key,
)

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

OFF = "null"
FIELDS = ("calib_algorithm", *PASSES, "fusion_alignment", "dispatching_table", "extra")

_TQT = {"lr": (1e-5, 2e-5, 5e-5), "steps": (500, 1000, 2000), "block_size": (2, 4)}
_WORST_OPS = 3
_ATTEMPTS = 200
"""Draws until the space counts as used up."""


def propose_sampled(
    state: SearchState, draw: Callable[[], Mapping[str, str]], *, pattern: str, reason: str
) -> Proposal | None:
    """Draw until a setting is new and keeps the discipline.

    Where only the settings of a pool can be run, the nearest of them to the draw is taken.
    """
    for _ in range(_ATTEMPTS):
        setting = _reachable(state, draw())
        proposal = None if setting is None else _proposal(state, setting, pattern, reason)
        if proposal is not None:
            return proposal
    for setting in state.options.pool or ():
        proposal = _proposal(state, setting, pattern, reason)
        if proposal is not None:
            return proposal
    return None


def _proposal(state: SearchState, setting: Setting, pattern: str, reason: str) -> Proposal | None:
    """Return a proposal of a setting that is new and keeps the discipline."""
    if not state.is_new(setting):
        return None
    plain = Proposal(setting=setting, phase=Phase.OPEN, pattern=pattern, reason=reason)
    proposal = complete(state, plain)
    return proposal if state.is_clean(proposal.setting) else None


def _reachable(state: SearchState, choice: Mapping[str, str]) -> Setting | None:
    """Return the setting of a choice; where there is a pool, the one in it that is nearest."""
    if state.options.pool is None:
        setting = decode(choice)
        return None if setting is None else state.without_crashed_layers(setting)
    return min(
        (setting for setting in state.options.pool if state.is_new(setting)),
        key=lambda setting: (distance(encode(setting), choice), setting_key(setting)),
        default=None,
    )


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


def space(state: SearchState) -> dict[str, tuple[str, ...]]:
    """Return the choices per field: those of the pool and the history, or else common ones, too."""
    settings = [
        iteration.setting for iteration in state.history.iterations if iteration.setting is not None
    ]
    settings += state.options.pool if state.options.pool is not None else list(_common(state))
    choices: dict[str, dict[str, None]] = {name: {} for name in FIELDS}
    for setting in settings:
        for name, value in encode(setting).items():
            choices[name].setdefault(value)
    return {name: tuple(sorted(values)) or (OFF,) for name, values in choices.items()}


def distance(left: Mapping[str, str], right: Mapping[str, str]) -> int:
    """Return in how many fields two choices differ."""
    return sum(left[name] != right[name] for name in FIELDS)


def _common(state: SearchState) -> Iterator[Setting]:
    """Yield settings whose fields span the space: single levers, schedules and int16 sets."""
    plain = baseline(num_of_bits=state.options.width)
    for calibration in (*SWEEP, "minmax"):
        yield plain.model_copy(update={"calib_algorithm": calibration})
    for lr, steps, block_size in product(*_TQT.values()):
        update = {"lr": lr, "steps": steps, "block_size": block_size}
        yield plain.model_copy(update={"tqt_optimization": DEFAULT_TQT.model_copy(update=update)})
    evidence = state.best_evidence
    worst = [op for op, _ in evidence.worst(_WORST_OPS) if may_have_16_bits(op, evidence)]
    for count in range(1, len(worst) + 1):
        table = [Dispatch(op=op, bits=16) for op in worst[:count]]
        yield plain.model_copy(update={"dispatching_table": table})
    for lever in LEVERS.values() if state.has_base else ():
        if lever.applies(state).applies:
            yield lever.change(state)
