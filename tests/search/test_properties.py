"""Random histories: what must hold whatever the metric does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.record import LayerError
from espdl_quantize.search import LEVERS, Decision, Open, Proposal, lint_setting
from espdl_quantize.search.levers import is_tried
from espdl_quantize.setting import baseline, parse_setting, setting_key
from tests.matrix import examples
from tests.search.made_runs import (
    SWEEP,
    decide_on,
    drive,
    evidence,
    history,
    hot,
    known,
    make,
    run,
    state_of,
    swept,
    tqt,
    weight,
)

SCORES = st.lists(
    st.one_of(st.none(), st.floats(-2, 2, allow_nan=False), st.sampled_from([0.0, 0.5, 0.7])),
    min_size=12,
    max_size=12,
)
FOUND = st.builds(
    lambda snrs, kind, snr, ratio, kurtosis: evidence(
        layerwise=tuple(
            LayerError(f"conv{i}", s) for i, s in enumerate(sorted(snrs, reverse=True))
        ),
        hot_ops=(hot(kind, snr, ratio),),
        stats=(weight("conv0", kurtosis),),
    ),
    st.lists(st.floats(0, 2), max_size=6),
    st.sampled_from(["Add", "Concat", "Resize", "Relu"]),
    st.floats(0, 0.5),
    st.one_of(st.none(), st.floats(1, 10)),
    st.one_of(st.none(), st.floats(-3, 30)),
)


@given(SCORES, FOUND, st.sampled_from(["max", "min"]))
@examples(50, whole=150)
def test_the_search_ends_and_repeats_nothing(scores: Any, found: Any, direction: Any) -> None:
    past, decision = drive(lambda _, number: scores[number % len(scores)], found, 12, direction)
    assert decision.phase in ("phase-4-final-report", "phase-5-agent-driven")
    assert len(past.iterations) <= 9
    keys = [setting_key(known(row.setting)) for row in past.iterations]
    assert len(set(keys)) == len(keys)
    assert [row.id for row in past.iterations] == list(range(len(keys)))


@given(SCORES, FOUND)
@examples(25, whole=75)
def test_what_the_search_proposes_is_valid_and_keeps_the_discipline(
    scores: Any, found: Any
) -> None:
    past = history()
    for number in range(9):
        decision = decide_on(past, found)
        if not isinstance(decision, Proposal):
            break
        payload = decision.setting.model_dump(exclude_none=True)
        assert setting_key(parse_setting(payload)) == setting_key(decision.setting)
        assert lint_setting(decision.setting, state_of(past, found)) == []
        past = history(*past.iterations, run(number, scores[number], decision.setting))


def signals_of(decision: Decision) -> dict[str, Any] | None:
    return decision.signals.to_json() if isinstance(decision, Open) else None


@given(SCORES, FOUND)
@examples(25, whole=75)
def test_min_mirrors_max(scores: Any, found: Any) -> None:
    up, at_the_end = drive(lambda _, number: scores[number], found, 12, "max")
    mirrored = [None if score is None else -score for score in scores]
    down, there = drive(lambda _, number: mirrored[number], found, 12, "min")
    assert [setting_key(known(row.setting)) for row in up.iterations] == [
        setting_key(known(row.setting)) for row in down.iterations
    ]
    assert at_the_end.phase == there.phase
    assert up.ranks == down.ranks
    assert (up.best and up.best.id) == (down.best and down.best.id)
    assert signals_of(at_the_end) == signals_of(there)


@given(SCORES)
def test_best_has_rank_1_and_ranks_are_dense(scores: Any) -> None:
    past = history(*(run(i, score) for i, score in enumerate(scores)))
    ranks = [rank for rank in past.ranks.values() if rank is not None]
    assert (past.best is None) == (not ranks)
    if past.best is not None:
        assert past.ranks[past.best.id] == 1
        assert set(ranks) == set(range(1, max(ranks) + 1))
        first = min(row_id for row_id, rank in past.ranks.items() if rank == 1)
        assert past.best.id == first
    assert all((past.ranks[row.id] is None) == (row.status == "failed") for row in past.iterations)


@given(SCORES, st.sampled_from(["max", "min"]))
def test_a_further_run_reorders_no_older_pair(scores: Any, direction: Any) -> None:
    rows = [run(i, score, direction=direction) for i, score in enumerate(scores)]
    before, after = history(*rows[:-1]).ranks, history(*rows).ranks
    old = [row_id for row_id, rank in before.items() if rank is not None]
    for left in old:
        for right in old:
            was = known(before[left]) < known(before[right])
            assert was == (known(after[left]) < known(after[right]))


LEVER_SETS = st.lists(st.sampled_from(["3a-1", "3a-3", "3b", "3d", "3e", "3g"]), max_size=4)


@given(st.lists(st.tuples(st.floats(0, 1), LEVER_SETS), max_size=10), st.booleans())
@examples(40, whole=100)
def test_any_history_is_decided(steps: Any, broken: Any) -> None:
    """Hand-written iterations in any order: a decision comes, and proposes nothing tried."""
    found = evidence()
    rows = list(swept(*SWEEP).iterations)
    for value, names in steps:
        setting = make(calib_algorithm="mse", tqt_optimization=tqt())
        for name in names:
            setting = LEVERS[name].change(state_of(history(run(0, 0.5, setting)), found))
        row = run(len(rows), value, setting)
        rows.append(replace(row, setting=None) if broken and value > 0.9 else row)
    past = history(*rows)
    decision = decide_on(past, found)
    if isinstance(decision, Proposal) and decision.lever is not None:
        assert not is_tried(LEVERS[decision.lever], past)
        tried = {setting_key(row.setting) for row in rows if row.setting is not None}
        assert setting_key(decision.setting) not in tried
    if isinstance(decision, Open):
        assert decision.signals.phase5_cutoff_iter_id <= rows[-1].id
        for name in decision.signals.untried_phase3_levers:
            assert not is_tried(LEVERS[name], past)


def test_drive_reaches_the_cap() -> None:
    past, decision = drive(lambda _, number: number / 100, evidence())
    assert decision.phase == "phase-5-agent-driven"
    assert len(past.iterations) == 9
    assert past.iterations[0].setting == baseline(0, num_of_bits=None)
