"""One state per step, and what it answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from espdl_quantize.record import History, Signals
from espdl_quantize.search import (
    Open,
    Proposal,
    RankBy,
    SearchOptions,
    SearchState,
    Stop,
    decide,
    describe_score,
    lint_setting,
)
from espdl_quantize.search.policies import make_policy
from tests.search.made_runs import SWEEP, evidence, history, known, state_of, swept, trained


def with_signals(past: History, *noises: float | None) -> History:
    """The same iterations, each with this noise at its outputs."""
    pairs = zip(past.iterations, noises, strict=True)
    return history(*(replace(item, signals=_signals(noise)) for item, noise in pairs))


def _signals(noise: float | None) -> Signals | None:
    return None if noise is None else Signals(samples=40, noise_signal=noise, agreement=1 - noise)


QUIET_IS_3 = with_signals(swept(*SWEEP), 0.4, 0.3, 0.2, 0.1)
"""Best by the metric is iter_2; iter_3 has the least noise and the highest agreement."""


@pytest.mark.parametrize("rank_by", [RankBy.NOISE, RankBy.AGREEMENT])
def test_ranking_by_a_signal_leaves_every_value_as_it_was(rank_by: RankBy) -> None:
    state = SearchState.of(QUIET_IS_3, options=SearchOptions(rank_by=rank_by))
    assert known(state.best).id == 3
    assert known(state.history.best).id == 2
    assert all(
        ranked is scored
        for ranked, scored in zip(state.ranking.iterations, QUIET_IS_3.iterations, strict=True)
    )
    assert [item.value for item in state.ranking.iterations] == list(SWEEP)
    assert state.ranking.ranks == {0: 4, 1: 3, 2: 2, 3: 1}
    assert known(state.by_metric.best).id == 2


def test_a_signal_is_named_and_told_by_its_own_number() -> None:
    state = SearchState.of(QUIET_IS_3, options=SearchOptions(rank_by=RankBy.NOISE))
    assert describe_score(state.ranking, known(state.best)) == (
        "iter_3 scored output noise:signal 0.1"
    )
    assert describe_score(state.history, known(state.best)) == "iter_3 scored top1 0.65"


def test_without_the_signal_the_metric_ranks() -> None:
    past = with_signals(swept(*SWEEP), 0.4, None, 0.2, 0.1)
    state = SearchState.of(past, options=SearchOptions(rank_by=RankBy.NOISE))
    assert state.ranking is past
    assert state.options.rank_by is RankBy.METRIC


def test_the_target_is_judged_by_the_metric_whatever_ranks() -> None:
    options = SearchOptions(rank_by=RankBy.NOISE, target=0.7)
    decision = decide(SearchState.of(QUIET_IS_3, options=options))
    assert isinstance(decision, Stop)
    assert decision.category == "target_reached"


def test_a_state_decides_once() -> None:
    state = state_of(swept(*SWEEP))
    assert decide(state) is decide(state)
    assert state.signals is state.signals


def test_the_artifacts_of_best_alone_are_read_before_the_search_is_open() -> None:
    past = swept(*SWEEP)
    read: list[int] = []

    class Recording(dict):  # type: ignore[type-arg]
        def get(self, key: int, default: object = None) -> object:
            read.append(key)
            return super().get(key, default)

    state = SearchState.of(past, Recording({item.id: evidence() for item in past.iterations}))
    assert isinstance(decide(state), Proposal)
    assert set(read) == {2}


def test_sweep_levers_and_policies_propose_the_same_thing() -> None:
    losing = tuple((0.5, trained(bias_correct={"enabled": True, "steps": i})) for i in range(1, 6))
    opened = state_of(swept(*SWEEP, rest=losing), user_budget=True)
    by_sweep, by_lever = (decide(state_of(swept(*SWEEP[:count]))) for count in (2, 4))
    assert isinstance(decide(opened), Open)
    by_policy = make_policy("evidence").propose(opened)
    for proposal, state in (
        (by_sweep, state_of(swept(*SWEEP[:2]))),
        (by_lever, state_of(swept(*SWEEP))),
        (by_policy, opened),
    ):
        assert isinstance(proposal, Proposal)
        assert proposal.setting.iteration_id == state.history.next_id
        assert proposal.setting.rationale
        assert proposal.pattern and proposal.reason and proposal.advice
        assert proposal.phase == decide(state).phase
        assert lint_setting(proposal.setting, state) == []
