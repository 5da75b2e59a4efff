"""Completes a proposal: its number, and a rationale that names what speaks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search._describe import cite, describe_changes
from espdl_quantize.search.phase5 import covers
from espdl_quantize.search.policies._effects import Observation

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState

_SOURCES = 3


def complete(
    state: SearchState,
    proposal: Proposal,
    *,
    sources: Sequence[Observation] = (),
    expected_gain: float | None = None,
) -> Proposal:
    """Number the setting and write its rationale.

    Args:
        state: what the policy decided on.
        proposal: the setting, the kind of change, and the reason.
        sources: what earlier iterations say of its changes.
        expected_gain: over best; None where the policy does not say.
    """
    best = state.best
    covered = covers(state.signals, state.base, proposal.setting)
    sentences = [
        f"Open exploration, {proposal.pattern} on {state.base_name}: "
        f"{describe_changes(state.base, proposal.setting)}."
    ]
    if proposal.reason:
        sentences.append(f"{proposal.reason}.")
    if covered:
        sentences.append(f"Covers {', '.join(covered)}.")
    # What has not ended has no effect on record.
    cited = _distinct([each for each in sources if each.iteration.id not in state.pending])
    if cited:
        effects = ", ".join(_effect(state, source) for source in cited)
        sentences.append(f"On record: {effects}.")
    if expected_gain is not None:
        sentences.append(f"Expected gain {expected_gain:+.3g}.")
    if best is not None:
        sentences.append(f"{cite(state.ranking, best, state.best_evidence)}.")
    ids = {source.iteration.id for source in cited} | ({best.id} if best is not None else set())
    rationale = " ".join(sentences)
    update = {"iteration_id": state.history.next_id, "rationale": rationale}
    return replace(
        proposal,
        setting=proposal.setting.model_copy(update=update),
        phase=state.decision.phase,
        advice=rationale,
        expected_gain=expected_gain or 0.0,
        citations=tuple(sorted(ids)),
        covers=covered,
        race="open exploration",
    )


def _distinct(sources: Sequence[Observation]) -> list[Observation]:
    first: dict[int, Observation] = {}
    for source in sources:
        first.setdefault(source.iteration.id, source)
    return list(first.values())[:_SOURCES]


def _effect(state: SearchState, source: Observation) -> str:
    gain = state.ranking.gain(source.iteration)
    way = "without " if source.feature.sign < 0 else ""
    effect = "failed" if gain is None else f"{gain:+.4g}"
    return f"{source.iteration.name} {effect} ({way}{source.feature.name})"
