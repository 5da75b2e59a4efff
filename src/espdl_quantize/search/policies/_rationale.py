"""Turns a change into a proposal whose rationale names the iterations and numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from espdl_quantize.search._describe import cite, describe_changes
from espdl_quantize.search.policies._base import PolicyContext, Proposal
from espdl_quantize.search.policies._coverage import covers
from espdl_quantize.search.policies._effects import Observation
from espdl_quantize.setting import Setting

_SOURCES = 3


def proposal(
    context: PolicyContext,
    setting: Setting,
    pattern: str,
    reason: str,
    sources: Sequence[Observation] = (),
    expected_gain: float | None = None,
) -> Proposal:
    """Number the setting and write its rationale.

    Args:
        context: what the policy decided on.
        setting: what to run.
        pattern: the kind of move.
        reason: why, with the numbers of the artifacts.
        sources: what earlier iterations say of its changes.
        expected_gain: over best; None where the policy does not say.
    """
    history, best = context.history, context.history.best
    settled = covers(context.signals, context.base, setting)
    told = [
        f"Open exploration, {pattern} on {context.base_name}: "
        f"{describe_changes(context.base, setting)}."
    ]
    if reason:
        told.append(f"{reason}.")
    if settled:
        told.append(f"Covers {', '.join(settled)}.")
    cited = _distinct(sources)
    if cited:
        record = ", ".join(_effect(context, source) for source in cited)
        told.append(f"On record: {record}.")
    if expected_gain is not None:
        told.append(f"Expected gain {expected_gain:+.3g}.")
    if best is not None:
        told.append(f"{cite(history, best, context.evidence)}.")
    ids = {source.row.id for source in cited} | ({best.id} if best is not None else set())
    numbered = setting.model_copy(
        update={"iteration_id": history.next_id, "rationale": " ".join(told)}
    )
    return Proposal(numbered, pattern, expected_gain or 0.0, tuple(sorted(ids)), settled)


def _distinct(sources: Sequence[Observation]) -> list[Observation]:
    first: dict[int, Observation] = {}
    for source in sources:
        first.setdefault(source.row.id, source)
    return list(first.values())[:_SOURCES]


def _effect(context: PolicyContext, source: Observation) -> str:
    gain = context.history.gain(source.row)
    way = "without " if source.feature.sign < 0 else ""
    told = "failed" if gain is None else f"{gain:+.4g}"
    return f"{source.row.name} {told} ({way}{source.feature.name})"
