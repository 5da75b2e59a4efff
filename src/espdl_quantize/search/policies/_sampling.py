"""From a sampled choice per field to a proposal: what both sampling policies share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from espdl_quantize.search.policies._base import PolicyContext, Proposal
from espdl_quantize.search.policies._rationale import proposal
from espdl_quantize.search.policies._space import decode, distance, encode
from espdl_quantize.setting import Setting, setting_key

_ATTEMPTS = 200
"""Draws until the space counts as used up."""


def propose_sampled(
    context: PolicyContext, draw: Callable[[], Mapping[str, str]], pattern: str, reason: str
) -> Proposal | None:
    """Draw until a setting is new and keeps the discipline.

    Where only the settings of a pool can be run, the nearest of them to the draw is taken.
    """
    for _ in range(_ATTEMPTS):
        setting = _settle(context, draw())
        if setting is None or not context.is_new(setting):
            continue
        made = proposal(context, setting, pattern, reason)
        if context.is_clean(made.setting):
            return made
    return _any_left(context, pattern, reason)


def _settle(context: PolicyContext, choice: Mapping[str, str]) -> Setting | None:
    if context.pool is None:
        setting = decode(choice)
        return None if setting is None else context.without_crashed_layers(setting)
    left = [setting for setting in context.pool if context.is_new(setting)]
    return min(
        left,
        key=lambda setting: (distance(encode(setting), choice), setting_key(setting)),
        default=None,
    )


def _any_left(context: PolicyContext, pattern: str, reason: str) -> Proposal | None:
    """Return any setting of a pool that can still be run."""
    for setting in context.pool or ():
        if context.is_new(setting):
            made = proposal(context, setting, pattern, reason)
            if context.is_clean(made.setting):
                return made
    return None
