"""The strategy "swift": without training first, then training of what came out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given

from espdl_quantize.core import FailedPass, Strategy
from espdl_quantize.record import (
    Failure,
    History,
    IterationRecord,
    OpGroup,
    Signals,
    Widths,
)
from espdl_quantize.search import (
    DEFAULT_THRESHOLDS,
    LONG_TQT,
    LONGEST_TQT,
    SCREENED,
    SHORT_TQT,
    Decision,
    Open,
    Proposal,
    SearchOptions,
    SearchState,
    Stop,
    decide,
    lint_setting,
    stretches_left,
)
from espdl_quantize.setting import (
    Setting,
    canonical,
    diff,
    int16_ops,
    parse_setting,
    setting_key,
)
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.matrix import examples
from tests.search.made_runs import EQUALIZED, evidence, history, known, make, run, state_of
from tests.search.test_groups import OPS, priced
from tests.search.test_properties import FOUND, SCORES
from tests.tuning.fake_backend import FakeBackend

SWIFT = Strategy.SWIFT


def swift(past: History, found: Any = None, **options: Any) -> Decision:
    return decide(state_of(past, found, strategy=SWIFT, **options))


def next_setting(past: History, found: Any = None, **options: Any) -> Setting:
    decision = swift(past, found, **options)
    assert isinstance(decision, Proposal)
    return decision.setting


def screened(**scores: float) -> History:
    """The calibrations without training, with their scores."""
    rows = [run(i, scores[name], make(calib_algorithm=name)) for i, name in enumerate(SCREENED)]
    return history(*rows)


def then(past: History, *rows: tuple[float | None, Setting], **fields: Any) -> History:
    start = len(past.iterations)
    more = [run(start + i, value, setting, **fields) for i, (value, setting) in enumerate(rows)]
    return history(*past.iterations, *more)


def trained(calib: str, steps: int, lr: float, **fields: Any) -> Setting:
    tqt = {"enabled": True, "steps": steps, "lr": lr, "block_size": 4}
    return make(calib_algorithm=calib, tqt_optimization=tqt, **fields)


SCREEN = screened(kl=0.5, minmax=0.6, percentile=0.59, mse=0.4)
EQUAL = make(calib_algorithm="minmax", equalization=EQUALIZED)
CORRECT = make(calib_algorithm="minmax", bias_correct={"enabled": True, "steps": 32})
SHORT = trained("minmax", SHORT_TQT.steps, SHORT_TQT.lr)
LONG = trained("minmax", LONG_TQT.steps, LONG_TQT.lr)


def test_every_calibration_is_tried_without_training_first() -> None:
    past = history()
    tried = []
    for number in range(4):
        setting = next_setting(past)
        tried.append(canonical(setting))
        past = history(*past.iterations, run(number, 0.5, setting))
    assert tried == [{"calib_algorithm": name} for name in ("kl", "minmax", "percentile", "mse")]


def test_levers_without_training_follow_on_the_best_calibration() -> None:
    assert canonical(next_setting(SCREEN)) == canonical(EQUAL)
    lost = then(SCREEN, (0.55, EQUAL))
    assert canonical(next_setting(lost)) == canonical(CORRECT)


def test_a_lever_that_gains_has_the_calibrations_tried_again() -> None:
    past = then(SCREEN, (0.7, EQUAL))
    tried = []
    while canonical(next_setting(past)).keys() == {"calib_algorithm", "equalization"}:
        setting = next_setting(past)
        tried.append(setting.calib_algorithm)
        past = then(past, (0.65, setting))
    assert tried == ["kl", "percentile", "mse"]


def test_the_best_is_trained_shortly_then_its_rival_then_the_better_for_long() -> None:
    quiet = {"minmax": 0.10, "percentile": 0.12, "kl": 0.5, "mse": 0.9}
    rows = [
        run(i, 0.6 - i / 100, make(calib_algorithm=name), signals=Signals(40, noise, 0.9))
        for i, (name, noise) in enumerate(quiet.items())
    ]
    past = then(history(*rows), (0.5, EQUAL), (0.5, CORRECT))
    assert canonical(next_setting(past)) == canonical(SHORT)
    past = then(past, (0.7, SHORT), float_value=0.7)
    # Of the others only percentile comes near in the noise at the outputs.
    rival = next_setting(past)
    assert canonical(rival) == canonical(trained("percentile", SHORT_TQT.steps, SHORT_TQT.lr))
    past = then(past, (0.65, rival))
    assert canonical(next_setting(past)) == canonical(LONG)
    past = then(past, (0.72, LONG), float_value=0.72)
    decision = swift(past)
    assert isinstance(decision, Stop)
    assert decision.category == "coverage_exhausted"
    assert isinstance(swift(past, user_budget=True), Open)


def test_training_goes_on_only_where_it_gained_and_a_gap_is_left() -> None:
    past = then(SCREEN, (0.5, EQUAL), (0.5, CORRECT), (0.7, SHORT), float_value=0.7)
    behind = then(past, (0.8, LONG), float_value=0.9)
    moved = then(behind, (0.4, next_setting(behind)))
    paid = then(moved, (0.4, next_setting(moved)), (0.4, next_setting(moved)))
    longest = known(next_setting(paid).tqt_optimization)
    assert (longest.steps, longest.lr) == (LONGEST_TQT.steps, LONGEST_TQT.lr)
    assert isinstance(swift(then(past, (0.8, LONG), float_value=0.8)), Stop)
    assert isinstance(swift(then(past, (0.6, LONG), float_value=0.9)), Stop)


def test_a_short_training_that_loses_is_followed_by_a_gentle_one_and_by_no_long_one() -> None:
    past = then(SCREEN, (0.5, EQUAL), (0.5, CORRECT), (0.55, SHORT))
    assert canonical(next_setting(past)) == canonical(trained("minmax", 500, 1e-5))
    decision: Decision = swift(past)
    while isinstance(decision, Proposal):
        assert decision.setting.tqt_optimization != LONG_TQT
        past = then(past, (0.5, decision.setting))
        decision = swift(past)
    assert isinstance(decision, Stop)


def test_levers_that_take_long_come_where_a_gap_is_left_and_those_that_cost_the_chip_last() -> None:
    past = then(SCREEN, (0.5, EQUAL), (0.5, CORRECT), (0.9, SHORT), float_value=0.9)
    assert canonical(next_setting(past)) == canonical(LONG)
    behind = then(SCREEN, (0.5, EQUAL), (0.5, CORRECT), (0.7, SHORT), float_value=0.9)
    decision = swift(behind)
    assert isinstance(decision, Proposal)
    assert decision.lever == "3k"
    assert known(decision.setting.tqt_optimization).steps == SHORT_TQT.steps
    decision = swift(then(behind, (0.6, decision.setting)))
    assert isinstance(decision, Proposal)
    assert decision.lever == "3e"


def test_groups_of_ops_get_16_bits_before_single_ones() -> None:
    rows = (SCREEN, (0.5, EQUAL), (0.5, CORRECT), (0.7, SHORT))
    past = then(*rows, float_value=0.9)
    searched = swift(past)
    assert isinstance(searched, Proposal)
    past = then(past, (0.6, searched.setting))
    past = history(*(replace(each, cost=priced()) for each in past.iterations))
    widths = Widths(1.0, 16, True, (OpGroup(("a", "b"), 0.2),), (), {})
    found = evidence(ops=OPS, widths=widths)
    decision = swift(past, found)
    assert isinstance(decision, Proposal)
    assert decision.lever == "3i"
    assert set(int16_ops(decision.setting)) == {"a", "b"}
    # It is kept on its own merits: what comes next is built on best, which has none.
    later = swift(then(past, (0.65, decision.setting)), found)
    assert isinstance(later, Proposal)
    assert later.lever != "3i"
    assert not int16_ops(later.setting)


def test_where_no_training_helped_the_levers_go_by_what_the_baseline_measured() -> None:
    widths = Widths(1.0, 16, True, (OpGroup(("a", "b"), 0.2),), (), {})
    measured = evidence(ops=OPS, widths=widths, owner="iter_0")

    def decided(past: History) -> Decision:
        # As on the disk: what is not trained was not analysed, but the baseline.
        found = {each.id: evidence(ops=OPS, layerwise=()) for each in past.iterations}
        return decide(SearchState.of(past, {**found, 0: measured}, SearchOptions(strategy=SWIFT)))

    past = then(SCREEN, (0.7, EQUAL), (0.5, CORRECT), (0.55, SHORT), float_value=0.9)
    past = history(*(replace(each, cost=priced()) for each in past.iterations))
    pulled, decision = {}, decided(past)
    while isinstance(decision, Proposal):
        if decision.lever:
            pulled[decision.lever] = decision
        past = then(past, (0.5, decision.setting))
        decision = decided(past)
    assert {"3k", "3i"} <= set(pulled)
    assert set(int16_ops(pulled["3i"].setting)) == {"a", "b"}
    assert pulled["3i"].citations == (4,)
    assert "int16_groups.json of iter_0, 16 held-out samples" in pulled["3i"].reason


def test_a_crash_in_training_leaves_its_layers_out() -> None:
    where = FailedPass("TQT", "tqt_optimization", "conv1", ("conv1",), ("conv0", "conv2"))
    crash = Failure("quantize", "boom", "", failed_pass=where)
    past = then(SCREEN, (0.5, EQUAL), (0.5, CORRECT), (None, SHORT), failure=crash)
    section = known(next_setting(past).tqt_optimization)
    assert section.interested_layers == ["conv0", "conv2"]
    again = then(past, (0.8, next_setting(past)), float_value=0.8)
    longer = known(next_setting(again).tqt_optimization)
    assert longer.steps == LONG_TQT.steps
    assert longer.interested_layers == ["conv0", "conv2"]


def test_the_strategy_of_the_folder_is_kept() -> None:
    rows = [run(0, 0.5, make(calib_algorithm="kl"), strategy="swift")]
    assert state_of(history(*rows)).options.strategy is SWIFT
    assert state_of(history(*rows), strategy="seed").options.strategy is Strategy.SEED
    assert state_of(history()).options.strategy is Strategy.SEED


@given(SCORES, FOUND)
@examples(20, whole=60)
def test_it_ends_repeats_nothing_and_changes_one_thing_at_a_time(scores: Any, found: Any) -> None:
    past, number = history(), 0
    decision = swift(past, found)
    while isinstance(decision, Proposal):
        assert number < 20
        setting = decision.setting
        assert setting.iteration_id == number
        payload = setting.model_dump(exclude_none=True)
        assert setting_key(parse_setting(payload)) == setting_key(setting)
        assert lint_setting(setting, state_of(past, found, strategy=SWIFT)) == []
        if decision.citations:
            base = known(past.get(decision.citations[0]))
            paths = {change.path.split(".")[0] for change in diff(known(base.setting), setting)}
            assert len(paths) == 1
        past = history(*past.iterations, run(number, scores[number % 12], setting))
        number += 1
        decision = swift(past, found)
    keys = [setting_key(known(row.setting)) for row in past.iterations]
    assert len(set(keys)) == len(keys)
    # What is planned is what is left: nothing.
    if past.best is not None and isinstance(decision, Stop):
        assert decision.category == "coverage_exhausted"


def test_what_is_planned_shrinks_to_nothing() -> None:
    names = [stretch.name for stretch in stretches_left(state_of(history(), strategy=SWIFT))]
    assert names[0] == "calibrations without training"
    assert names[-1] == "longer training"
    past = then(
        SCREEN,
        (0.5, EQUAL),
        (0.5, CORRECT),
        (0.9, SHORT),
        (0.9, LONG),
        float_value=0.9,
    )
    left = {item.name for item in stretches_left(state_of(past, strategy=SWIFT))}
    assert "calibrations without training" not in left


class _NotingBackend(FakeBackend):
    """Notes the runs whose analyses are left out, and the strategy that asks for each."""

    lean: list[Setting]
    strategies: set[str]
    analysed: set[int | None]

    def run(self, setting: Setting, folder: Path, progress: Any, **changed: Any) -> IterationRecord:
        self.lean += [] if changed["analyse"] else [setting]
        self.strategies.add(changed["strategy"])
        self.analysed.add(changed["analysed"])
        return super().run(setting, folder, progress)


def test_nothing_is_analysed_that_is_not_trained_but_the_baseline(tmp_path: Path) -> None:
    backend = _NotingBackend()
    backend.lean, backend.strategies, backend.analysed = [], set(), set()
    tune(backend, tmp_path, TuneOptions(strategy=SWIFT))
    untrained = [each for each in backend.runs if "tqt_optimization" not in canonical(each)]
    assert backend.lean == untrained[1:]
    assert backend.strategies == {"swift"}
    assert backend.analysed == {DEFAULT_THRESHOLDS.swift_analysed}
    backend.analysed = set()
    tune(backend, tmp_path / "seed", TuneOptions(Budget(iterations=2), strategy=Strategy.SEED))
    assert backend.analysed == {None}


def test_it_comes_as_far_as_the_seed_in_a_quarter_of_the_time(tmp_path: Path) -> None:
    scores, seconds = {}, {}
    for strategy in Strategy:
        backend, outputs = FakeBackend(), tmp_path / strategy
        result = tune(backend, outputs, TuneOptions(strategy=strategy))
        scores[strategy] = known(known(result.history.best).value)
        seconds[strategy] = backend.seconds
        report = (outputs / "final_report.md").read_text()
        assert f"Strategy of the search: {strategy}" in report
        assert "ran against the rule" not in report
    assert scores[SWIFT] > scores[Strategy.SEED] - 0.01
    assert seconds[SWIFT] < seconds[Strategy.SEED] / 4


def test_it_is_what_a_search_takes_by_itself(tmp_path: Path) -> None:
    unasked, asked = FakeBackend(strategy=None), FakeBackend(strategy=None)
    tune(unasked, tmp_path / "unasked", TuneOptions(Budget(6)))
    tune(asked, tmp_path / "asked", TuneOptions(Budget(6), strategy=SWIFT))
    assert unasked.runs == asked.runs
    # The seed trains its second already.
    assert not any("tqt_optimization" in canonical(each) for each in unasked.runs[:3])


def test_a_folder_goes_on_with_the_strategy_that_it_states() -> None:
    rows = [run(0, 0.5, make(calib_algorithm="kl"), strategy="seed")]
    assert state_of(history(*rows), unstated_strategy=SWIFT).options.strategy is Strategy.SEED
    assert state_of(history(), unstated_strategy=SWIFT).options.strategy is SWIFT
    # Of what is run one by one.
    assert state_of(history()).options.strategy is Strategy.SEED
