from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import pytest

from espdl_quantize.core import Engine, InstallationError, UsageError
from espdl_quantize.record import Evidence, History, Iteration, Jump, ReusedPass
from espdl_quantize.search import (
    SearchState,
    TimeModel,
    int16_ops,
    lint_setting,
    split_layers,
    sweep_setting,
)
from espdl_quantize.search.phase5 import calibration, classify, covers
from espdl_quantize.search.policies import (
    DEFAULT_PARAMETERS,
    POLICIES,
    EffectModel,
    EvidencePolicy,
    Expectation,
    features,
    make_policy,
)
from espdl_quantize.search.policies.generators import (
    GENERATORS,
    Ablate,
    Generator,
    PromoteOps,
    SplitLayers,
    SwapCalibration,
    TrimCost,
    TurnKnobs,
    transplant,
)
from espdl_quantize.setting import Setting, baseline, canonical, setting_key, unequal_exponents
from tests.search.made_runs import (
    EQUALIZED,
    SWEEP,
    Run,
    evidence,
    history,
    hot,
    known,
    make,
    run,
    state_of,
    swept,
    tqt,
    trained,
    weight,
)

BIAS = {"enabled": True, "block_size": 4, "steps": 32}


def int16(*ops: str) -> list[dict[str, Any]]:
    return [{"op": op, "bits": 16} for op in ops]


def split(*layers: str) -> dict[str, Any]:
    return {"enabled": True, "interested_layers": list(layers), "value_threshold": 1.5}


def opened(*further: Run, **fields: Any) -> History:
    """Phase 5 after five losing levers, then ``further`` (value, setting) pairs."""
    losing = tuple(
        (0.5, trained(bias_correct={"enabled": True, "steps": 10 + i})) for i in range(5)
    )
    return swept(*SWEEP, rest=losing + further, **fields)


def context_of(past: History, found: Evidence | None = None, **options: Any) -> SearchState:
    options = {"user_budget": True, "disciplined": True, **options}
    return state_of(past, found, **options)


FULL = {
    "bias_correct": BIAS,
    "equalization": EQUALIZED,
    "dispatching_table": int16("conv0"),
    "weight_split": split("conv1"),
    "fusion_alignment": {"align_concat_to": "Align to Large"},
}
DEEP = opened((0.8, trained("mse", **FULL)))
DEEP_BEST = known(known(DEEP.best).setting)


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("past", [opened(), DEEP, opened((None, trained("kl")))])
def test_a_proposal_is_new_clean_and_cites(name: Any, past: Any) -> None:
    context = context_of(past)
    found = known(make_policy(name).propose(context))
    assert context.is_new(found.setting)
    assert lint_setting(found.setting, context) == []
    assert found.setting.iteration_id == past.next_id
    assert past.best.id in found.citations
    assert all(f"iter_{number}" in found.setting.rationale for number in found.citations)
    assert found.covers == covers(context.signals, context.base, found.setting)
    assert found == make_policy(name).propose(context_of(past))


def test_what_the_chip_cannot_run_is_no_candidate() -> None:
    large = {"fusion_alignment": {"align_elementwise_to": "Align to Large"}}
    past = opened((0.8, trained("mse", **large)), (0.9, trained("mse", bias_correct=BIAS, **large)))
    context = context_of(past)
    assert not context.is_new(trained("kl", **large))
    turned = [one.setting for one in TurnKnobs().candidates(context, DEFAULT_PARAMETERS)]
    aligned = [known(one.fusion_alignment).align_elementwise_to for one in turned]
    assert "Align to Output" in aligned
    assert "None" not in aligned
    for name in POLICIES:
        for seed in range(5):
            found = make_policy(name).propose(context_of(past, seed=seed))
            assert found is None or unequal_exponents(found.setting) is None


def test_the_space_at_16_bits_has_esp_ppqs_default_there() -> None:
    past = history(run(0, 0.5, baseline(0, 16), num_of_bits=16))
    for bits in (None, 16):
        context = context_of(past, num_of_bits=bits)
        assert context.base.calib_algorithm == "minmax"
        assert not context.is_new(make(rationale="null means minmax here"))
        assert context.is_new(make(calib_algorithm="kl"))
    empty = context_of(history(), num_of_bits=16)
    assert empty.base.calib_algorithm == "minmax"


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_pool_is_used_up_and_then_nothing_is_proposed(name: Any) -> None:
    pool = (
        sweep_setting("mse"),
        trained("mse", equalization=EQUALIZED),
        trained("kl", bias_correct=BIAS),
    )
    past = opened()
    for _ in range(2):
        found = known(make_policy(name).propose(context_of(past, pool=pool)))
        assert setting_key(found.setting) in set(map(setting_key, pool))
        row = run(past.next_id, 0.1, found.setting)
        past = history(*past.iterations, row)
    assert make_policy(name).propose(context_of(past, pool=pool)) is None


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_policy_bears_a_history_without_any_score(name: Any) -> None:
    past = history(*(run(i, None, one) for i, one in enumerate((baseline(), sweep_setting("kl")))))
    found = make_policy(name).propose(context_of(past))
    assert found is None or setting_key(found.setting) not in context_of(past).tried


def test_an_unknown_policy_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="choose one of evidence, optuna"):
        make_policy("oracle")


def test_a_missing_optuna_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InstallationError) as error:
        make_policy("optuna")
    assert "espdl-quantize[optuna]" in error.value.hint


def test_the_seed_changes_what_is_drawn() -> None:
    one, other = (make_policy("random").propose(context_of(DEEP, seed=i)) for i in (1, 2))
    assert setting_key(known(one).setting) != setting_key(known(other).setting)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (trained("kl"), trained("mse"), {("calib mse", 1), ("calib kl", -1)}),
        (trained(), trained(bias_correct=BIAS), {("bias_correct", 1)}),
        (trained(bias_correct=BIAS), trained(), {("bias_correct", -1)}),
        (trained(), trained(dispatching_table=int16("a")), {("int16 a", 1)}),
        (
            trained(dispatching_table=int16("a")),
            trained(dispatching_table=int16("b")),
            {("int16 b", 1), ("int16 a", -1)},
        ),
        (
            trained(weight_split=split("a")),
            trained(weight_split=split("a", "b")),
            {("split b", 1)},
        ),
        (
            trained(),
            make(calib_algorithm="mse", tqt_optimization=tqt(steps=250)),
            {("tqt_optimization.steps", -1)},
        ),
        (trained(), trained(), set()),
    ],
)
def test_features_of_a_step(before: Any, after: Any, names: Any) -> None:
    assert {(one.name, one.sign) for one in features(before, after)} == names


def test_expected_improvement() -> None:
    assert Expectation(0.3, 0.0).improvement == 0.3
    assert Expectation(-0.3, 0.0).improvement == 0.0
    # The mean of the positive part of a standard normal is 1/sqrt(2 pi).
    assert Expectation(0.0, 1.0).improvement == pytest.approx(0.39894, abs=1e-5)
    assert 0 < Expectation(-1.0, 1.0).improvement < Expectation(0.0, 1.0).improvement


def expect(past: History, setting: Setting, found: Evidence | None = None) -> Expectation:
    return EffectModel(context_of(past, found), DEFAULT_PARAMETERS).expect(setting)


def test_what_gained_is_expected_to_cost_when_it_is_dropped() -> None:
    past = opened((0.8, trained("mse", equalization=EQUALIZED)))
    kept = expect(past, trained("mse", equalization=EQUALIZED))
    assert (kept.mean, kept.deviation) == (0.0, 0.0)
    dropped = expect(past, trained("mse", bias_correct=BIAS))
    assert dropped.mean < 0
    assert dropped.sources[0].iteration.id == 9


def test_the_posterior_is_the_documented_one() -> None:
    """One iteration, on the same stack as best has today, lost 0.1 with it; the gap is 0.2."""
    past = swept(*SWEEP, rest=((0.6, trained(bias_correct=BIAS)),), float_value=0.9)
    model = EffectModel(context_of(past), DEFAULT_PARAMETERS)
    assert model.gap == pytest.approx(0.2)
    found = model.expect(trained("mse", bias_correct={**BIAS, "steps": 64}))
    prior, deviation = DEFAULT_PARAMETERS.priors["bias_correct"]
    assert found.mean == pytest.approx((prior * 0.2 - 0.1) / 2)
    assert found.deviation == pytest.approx(deviation * 0.2 / 2**0.5)


def test_a_verdict_from_another_stack_counts_less() -> None:
    near = opened((0.5, trained(equalization=EQUALIZED)), float_value=2.0)
    deeper = opened(
        (0.5, trained(equalization=EQUALIZED)),
        (0.9, trained(dispatching_table=int16("conv0"), weight_split=split("conv1"))),
        float_value=2.0,
    )
    again: dict[str, Any] = {"equalization": {**EQUALIZED, "iterations": 30}}
    deep = trained(dispatching_table=int16("conv0"), weight_split=split("conv1"), **again)
    assert expect(near, trained(**again)).mean < expect(deeper, deep).mean


def test_a_failure_speaks_against_a_change() -> None:
    past = opened((None, trained(equalization=EQUALIZED)))
    again = trained(equalization={**EQUALIZED, "iterations": 30})
    assert expect(past, again).mean < expect(opened(), again).mean


def test_int16_is_expected_to_help_where_the_error_is() -> None:
    table = [trained("mse", dispatching_table=int16(op)) for op in ("conv0", "conv4", "other")]
    gains = [expect(opened(), setting).mean for setting in table]
    assert gains[0] > gains[1] > gains[2] == 0


def test_a_trigger_speaks_for_its_method() -> None:
    outlying = evidence(stats=(weight("conv0", 9.0),))
    setting = trained("mse", equalization=EQUALIZED)
    assert expect(opened(), setting, outlying).mean > expect(opened(), setting).mean


@pytest.mark.parametrize(
    ("past", "setting", "found"),
    [
        (opened(), trained(equalization=EQUALIZED), ("3d", "5alpha")),
        (opened(), trained("kl"), ("5beta",)),
        (opened(), make(calib_algorithm="mse"), ("5gamma",)),
        (opened(), make(calib_algorithm="mse", tqt_optimization=tqt(steps=400)), ()),
        (
            opened((0.6, trained("percentile")), (0.8, trained("mse", equalization=EQUALIZED))),
            trained("percentile", equalization=EQUALIZED),
            ("5beta", "reapply percentile"),
        ),
        (
            opened((0.6, trained("percentile")), (0.8, trained("mse", equalization=EQUALIZED))),
            trained("minmax", equalization=EQUALIZED),
            (),
        ),
    ],
)
def test_what_a_setting_covers(past: Any, setting: Any, found: Any) -> None:
    context = context_of(past)
    assert covers(context.signals, context.base, setting) == found


def test_coverage_comes_first() -> None:
    past = opened()
    for _ in range(5):
        context = context_of(past)
        found = known(EvidencePolicy().propose(context))
        owed = (*context.signals.untried_phase3_levers, *context.signals.untried_phase5_patterns)
        if not owed:
            break
        assert found.covers or owed == ("5delta",)
        past = history(*past.iterations, run(past.next_id, 0.1, found.setting))
    else:
        assert context.signals.untried_phase3_levers == ()


def test_speed_first_makes_int16_dearer() -> None:
    model = EvidencePolicy()
    costs = [
        model.cost(context_of(opened(), priority=priority), trained(dispatching_table=int16("a")))
        for priority in ("balanced", "speed")
    ]
    assert 0 < costs[0] < costs[1]


def timed(row: Iteration, seconds: float) -> Iteration:
    return replace(row, elapsed_seconds=seconds)


def test_under_a_budget_of_time_what_does_not_fit_goes_last() -> None:
    rows = [
        timed(row, 60 if known(row.setting).tqt_optimization is None else 360)
        for row in opened().iterations
    ]
    past = history(*rows)
    times = TimeModel(past)
    for left in (400, 100):
        found = known(EvidencePolicy().propose(context_of(past, seconds_left=left)))
        assert known(times.estimate(found.setting)).seconds <= left
    assert EvidencePolicy().propose(context_of(past, seconds_left=1)) is not None


def test_what_takes_much_longer_than_all_so_far_goes_last() -> None:
    rows = [
        timed(row, 1 if known(row.setting).tqt_optimization is None else 50)
        for row in opened((0.8, trained("mse", **FULL))).iterations
    ]
    past = history(*rows)
    spent, times = sum(known(row.elapsed_seconds) for row in rows), TimeModel(past)

    def seconds(patience: float) -> float:
        policy = EvidencePolicy(replace(DEFAULT_PARAMETERS, patience=patience))
        chosen = known(policy.propose(context_of(past))).setting
        return known(times.estimate(chosen)).seconds

    assert seconds(math.inf) == 50
    assert seconds(0.01) <= 0.01 * spent < 50


def candidates(
    generator: Generator, past: History = DEEP, found: Evidence | None = None
) -> list[Setting]:
    context = context_of(past, found)
    return [one.setting for one in generator.candidates(context, DEFAULT_PARAMETERS)]


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda one: type(one).__name__)
def test_candidates_say_why_and_are_valid(generator: Any) -> None:
    found = evidence(
        stats=(weight("conv2", 12.0),),
        hot_ops=(hot("Add", 0.25),),
        jumps=(Jump("conv2", "conv3", 0.1),),
    )
    for past in (opened(), DEEP):
        context = context_of(past, found)
        for one in generator.candidates(context, DEFAULT_PARAMETERS):
            assert one.reason
            assert one.pattern == generator.pattern
            # A setting is written and read back as what it is.
            from espdl_quantize.setting import parse_setting

            payload = one.setting.model_dump(exclude_unset=True)
            assert setting_key(parse_setting(payload)) == setting_key(one.setting)


def test_calibrations_are_swapped_under_the_whole_stack() -> None:
    swaps = candidates(SwapCalibration())
    assert [calibration(one) for one in swaps] == ["kl", "percentile", "minmax"]
    assert {classify(DEEP_BEST, one) for one in swaps} == {frozenset({"5beta"})}


def test_a_calibration_is_swapped_together_with_training() -> None:
    past = swept(0.9, 0.6, 0.5, 0.4)
    first = candidates(SwapCalibration(), past)[0]
    assert first.tqt_optimization is not None


def test_ablation_drops_one_thing() -> None:
    dropped = [set(canonical(DEEP_BEST)) - set(canonical(one)) for one in candidates(Ablate())]
    assert sorted(dropped, key=str) == sorted(
        [{name} for name in canonical(DEEP_BEST) if name != "calib_algorithm"], key=str
    )


def test_cost_is_trimmed_op_by_op() -> None:
    past = opened((0.8, trained(dispatching_table=int16("a", "b"), weight_split=split("c", "d"))))
    trimmed = [(int16_ops(one), split_layers(one)) for one in candidates(TrimCost(), past)]
    assert trimmed == [
        (("b",), ("c", "d")),
        (("a",), ("c", "d")),
        (("a", "b"), ("d",)),
        (("a", "b"), ("c",)),
    ]


def test_int16_goes_to_other_ops_and_replaces_one() -> None:
    jump = evidence(jumps=(Jump("conv2", "conv9", 0.1),), hot_ops=(hot("Add", 0.2),))
    sets = [int16_ops(one) for one in candidates(PromoteOps(), DEEP, jump)]
    assert sets[:2] == [("conv0", "conv1"), ("conv1",)]
    assert ("conv0", "conv9") in sets
    assert ("conv0", "add_1") in sets


def test_int16_stays_within_a_tenth_of_the_ops() -> None:
    few = evidence(ops=evidence().ops[:10])
    assert {len(int16_ops(one)) for one in candidates(PromoteOps(), DEEP, few)} == {1}


def test_another_layer_is_split() -> None:
    found = evidence(stats=(weight("conv2", 12.0), weight("conv3", 20.0), weight("conv4", 3.0)))
    sets = [split_layers(one) for one in candidates(SplitLayers(), DEEP, found)]
    assert sets == [("conv1", "conv3"), ("conv3",), ("conv1", "conv2"), ("conv2",)]


def test_knobs_move_one_step() -> None:
    changed = [features(DEEP_BEST, one) for one in candidates(TurnKnobs())]
    assert all(len(step) == 1 for step in changed)
    assert {step[0].family for step in changed} >= {
        "tqt_optimization.lr",
        "tqt_optimization.steps",
        "equalization.opt_level",
        "bias_correct.steps",
        "weight_split.value_threshold",
        "fusion_alignment",
    }


def test_a_change_is_taken_to_another_setting() -> None:
    moved = transplant(trained(), trained(bias_correct=BIAS), trained("kl", equalization=EQUALIZED))
    assert canonical(moved) == canonical(trained("kl", equalization=EQUALIZED, bias_correct=BIAS))


def test_times_are_learned_per_step() -> None:
    rows = (
        timed(run(0, 0.5), 100),
        timed(run(1, 0.6, sweep_setting("kl")), 150),
        timed(run(2, 0.6, make(calib_algorithm="mse", tqt_optimization=tqt(steps=1000))), 200),
    )
    fresh, measured = TimeModel(history()), TimeModel(history(*rows))
    assert fresh.estimate(baseline()) is None
    assert str(measured.estimate(baseline())) == "about 1 min 40 s"
    longer = make(calib_algorithm="mse", tqt_optimization=tqt(steps=2000))
    assert known(measured.estimate(longer)).seconds == pytest.approx(300)
    blockwise = trained(blockwise_reconstruction={"enabled": True, "steps": 1000})
    estimate = known(measured.estimate(blockwise))
    assert estimate.seconds == pytest.approx(250)
    assert estimate == replace(
        known(measured.estimate(sweep_setting("kl"))), seconds=estimate.seconds, complete=False
    )


def first_forward(row: Iteration, seconds: float, engine: Engine = Engine.FAST) -> Iteration:
    return replace(row, elapsed_by_stage={"run one batch": seconds}, engine=engine)


def test_a_first_training_is_derived_from_one_forward() -> None:
    """500 steps of 2.5 forwards each, and what the engine compiles."""
    row = first_forward(timed(run(0, 0.5), 12), 0.016)
    estimate = known(TimeModel(history(row)).estimate(sweep_setting("kl")))
    assert str(estimate) == "roughly 37 s"
    assert not estimate.complete
    plain = first_forward(timed(run(0, 0.5), 12), 0.016, Engine.REFERENCE)
    assert known(TimeModel(history(plain)).estimate(sweep_setting("kl"))).seconds > 80
    silent = TimeModel(history(timed(run(0, 0.5), 12))).estimate(sweep_setting("kl"))
    assert str(silent) == "at least 12 s"


def test_every_pass_that_is_on_counts() -> None:
    times = TimeModel(history(first_forward(timed(run(0, 0.5), 12), 0.016)))
    seconds = [
        known(times.estimate(setting)).seconds
        for setting in (
            baseline(),
            make(bias_correct={"enabled": True, "steps": 32}),
            sweep_setting("kl"),
            trained(bias_correct={"enabled": True, "steps": 32}),
            trained(blockwise_reconstruction={"enabled": True, "steps": 1000}),
        )
    ]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) == len(seconds)


def test_a_pass_that_was_never_run_goes_by_how_far_another_was_off() -> None:
    rows = (
        first_forward(timed(run(0, 0.5), 12), 0.016),
        first_forward(timed(run(1, 0.6, sweep_setting("kl")), 12 + 500 * 0.08), 0.016),
    )
    blockwise = trained(blockwise_reconstruction={"enabled": True, "steps": 1000})
    estimate = known(TimeModel(history(*rows)).estimate(blockwise))
    assert estimate.seconds == pytest.approx(12 + 500 * 0.08 + 1000 * 0.16)
    assert estimate.derived


def test_the_forward_is_found_by_the_name_of_its_stage() -> None:
    from espdl_quantize.core import Stage
    from espdl_quantize.search import _seconds

    assert _seconds._FORWARD == Stage.RUN_ONE_BATCH


def test_what_was_reused_is_not_taken_for_fast() -> None:
    rows = (timed(run(0, 0.5), 100), timed(run(1, 0.6, sweep_setting("kl")), 150))
    reused = (
        rows[0],
        replace(timed(run(1, 0.6, sweep_setting("kl")), 105), reused=(ReusedPass("tqt", 1, 45),)),
    )
    setting = sweep_setting("mse")
    expected = TimeModel(history(*rows)).estimate(setting)
    assert TimeModel(history(*reused)).estimate(setting) == expected


def test_scoring_the_float_model_is_paid_once() -> None:
    first = replace(run(0, 0.5), elapsed_seconds=100, elapsed_by_stage={"score float model": 40})
    assert known(TimeModel(history(first)).estimate(baseline())).seconds == 60
