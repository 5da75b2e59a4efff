"""What may run at once: races, and what is expected of iterations that have not ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.record import Budgets, Signals
from espdl_quantize.search import (
    DEFAULT_THRESHOLDS,
    Proposal,
    RankBy,
    SearchState,
    Stop,
    cited_iterations,
    decide,
    lint_setting,
    propose_beside,
    relaxed_rule,
)
from espdl_quantize.search.beside import expecting, waiting_for
from espdl_quantize.search.policies import make_policy
from espdl_quantize.setting import Setting, diff, setting_key
from tests.matrix import examples
from tests.search.made_runs import (
    SWEEP,
    evidence,
    history,
    known,
    make,
    run,
    state_of,
    swept,
    trained,
    weight,
)
from tests.search.test_properties import FOUND, SCORES

RICH = evidence(stats=(weight("conv0", 14.0),))
OPENED = tuple((0.65 + i / 100, trained(equalization={"enabled": True, "iterations": 10 + i}))
               for i in range(5))  # fmt: skip


def offer(
    state: SearchState, count: int, policy: str = "evidence", pending: tuple[Proposal, ...] = ()
) -> tuple[Proposal, ...]:
    """Return what may run beside ``pending``, up to so many in all."""
    explore = make_policy(policy).propose
    while len(pending) < count and (more := propose_beside(state, pending, explore)) is not None:
        pending = (*pending, more)
    return pending


def settings_of(proposals: tuple[Proposal, ...]) -> list[Setting]:
    return [proposal.setting for proposal in proposals]


@pytest.mark.parametrize("strategy", ["seed", "swift"])
def test_the_baseline_runs_alone(strategy: str) -> None:
    (only,) = offer(state_of(history(), strategy=strategy), 4)
    assert only.pattern == "baseline"


def test_the_points_of_the_sweep_run_at_once() -> None:
    state = state_of(swept(0.5))
    assert [each.calibration for each in offer(state, 8)] == ["kl", "mse", "percentile"]
    assert [each.setting.iteration_id for each in offer(state, 8)] == [1, 2, 3]


def test_a_lever_waits_for_the_sweep() -> None:
    state = state_of(swept(0.5, 0.6, 0.7))
    (last,) = offer(state, 8)
    assert last.calibration == "percentile"


def test_levers_are_each_one_change_of_the_same_best() -> None:
    state = state_of(swept(*SWEEP), RICH)
    proposals = offer(state, 8)
    assert [each.lever for each in proposals] == ["3a-1", "3b", "3d", "3e", "3f"]
    for each in proposals:
        assert {change.path.split(".")[0] for change in diff(state.base, each.setting)} != set()
        assert lint_setting(each.setting, state) == []


def test_the_cap_of_levers_counts_those_that_run() -> None:
    state = state_of(swept(*SWEEP, rest=OPENED[:3]), RICH)
    assert len(offer(state, 8)) == 2


def test_swift_tries_calibrations_side_by_side_and_waits_for_them() -> None:
    state = state_of(swept(0.5), RICH, strategy="swift")
    proposals = offer(state, 8)
    assert {each.setting.calib_algorithm for each in proposals} == {
        "minmax", "percentile", "mse"
    }  # fmt: skip
    tried = history(*state.history.iterations, run(1, 0.6, proposals[0].setting))
    assert offer(state_of(tried, RICH, strategy="swift"), 3, pending=proposals[1:]) == proposals[1:]


def test_a_repetition_runs_alone() -> None:
    state = state_of(swept(0.5))
    again = replace(offer(state, 1)[0], is_repetition=True, race="")
    assert offer(state, 4, pending=(again,)) == (again,)


@pytest.mark.parametrize("policy", ["evidence", "random"])
@pytest.mark.parametrize("rank_by", [RankBy.METRIC, RankBy.NOISE])
def test_open_exploration_spreads_around_best(policy: str, rank_by: RankBy) -> None:
    signals = Signals(64, 0.02, 0.9)
    past = swept(*SWEEP, rest=OPENED, signals=signals)
    moving = replace(DEFAULT_THRESHOLDS, plateau_window=99)
    state = state_of(past, RICH, user_budget=True, rank_by=rank_by, thresholds=moving)
    proposals = offer(state, 6, policy)
    assert len({setting_key(each.setting) for each in proposals}) == 6
    assert {each.race for each in proposals} == {"open exploration"}
    for each in proposals:
        assert known(state.best).id in cited_iterations(each.setting.rationale)
        assert max(cited_iterations(each.setting.rationale)) < state.history.next_id
        assert lint_setting(each.setting, state) == []


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("gain", [-0.1, 0.0, 5.0])
def test_nothing_that_runs_is_expected_to_beat_best(direction: str, gain: float) -> None:
    """Whatever its number is: ties go to the smaller."""
    past = swept(*SWEEP, rest=OPENED, direction=direction, signals=Signals(64, 0.02, 0.9))
    state = state_of(past, RICH, budgets=Budgets(max_drop=0.5))
    proposal = replace(
        Proposal(setting=make(), phase=decide(state).phase, pattern="x"), expected_gain=gain
    )
    for number in (-5, 99):
        setting = proposal.setting.model_copy(update={"iteration_id": number})
        told = expecting(state, (replace(proposal, setting=setting),))
        assert told.best == state.best
        assert told.history.best == state.history.best
        assert not isinstance(told.decision, Stop)


def test_what_runs_takes_its_point_and_says_nothing_else() -> None:
    state = state_of(swept(*SWEEP))
    beside = waiting_for(state, offer(state, 2))
    assert beside.best == state.best
    assert beside.times.estimate(state.base) == state.times.estimate(state.base)
    assert beside.history.target == state.history.target
    assert beside.history.next_id == state.history.next_id + 2
    assert waiting_for(state, ()) is state


def test_a_rule_of_seed_that_was_relaxed_is_named() -> None:
    past = swept(*SWEEP, rest=OPENED)
    rows = [replace(row, beside=(1,)) if row.id in (2, 5) else row for row in past.iterations]
    told = known(relaxed_rule(state_of(history(*rows), strategy="seed")))
    assert "iter_5 began before" in told
    assert relaxed_rule(state_of(past, strategy="seed")) is None
    assert relaxed_rule(state_of(history(*rows), strategy="swift")) is None


@given(SCORES, FOUND, st.sampled_from(["seed", "swift"]), st.integers(1, 7), st.booleans())
@examples(20, whole=60)
def test_any_history_offers_a_race_of_new_settings(
    scores: Any, found: Any, strategy: str, count: int, budget: bool
) -> None:
    """Grown by the search itself in races; the first of each is what the plain search does."""
    past, values = history(), iter([*scores, *scores])
    for _ in range(6):
        state = state_of(past, found, strategy=strategy, user_budget=budget)
        decision = decide(state)
        if isinstance(decision, Stop):
            break
        proposals = offer(state, count)
        if isinstance(decision, Proposal):
            assert proposals[0] is decision
        if not proposals:
            break
        assert len(proposals) <= count
        assert len({each.race for each in proposals}) == 1
        assert proposals[0].race or len(proposals) == 1
        keys = {setting_key(each.setting) for each in proposals}
        assert len(keys) == len(proposals)
        assert not keys & state.tried
        first = past.next_id
        assert [each.setting.iteration_id for each in proposals] == list(
            range(first, first + len(proposals))
        )
        # They end in another order than they began.
        rows = [run(each.setting.iteration_id, next(values, 0.1), each.setting) for each in
                reversed(proposals)]  # fmt: skip
        merged = sorted((*past.iterations, *rows), key=lambda row: row.id)
        past = history(*merged)
