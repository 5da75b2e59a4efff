from __future__ import annotations

from typing import Any

import pytest

from espdl_quantize.record import GraphOp, History
from espdl_quantize.search import LEVERS, SearchState, lint_setting, runtime_cost
from espdl_quantize.setting import Setting, baseline
from tests.search.made_runs import (
    EQUALIZED,
    SWEEP,
    evidence,
    history,
    make,
    propose_on,
    run,
    state_of,
    swept,
    tqt,
    trained,
)

BIAS = {"enabled": True}


def int16(*ops: str) -> list[dict[str, Any]]:
    return [{"op": op, "bits": 16} for op in ops]


def rules(setting: Setting, past: History) -> list[tuple[str, int | None]]:
    found = lint_setting(setting, state_of(past))
    assert all(item.found and item.hint for item in found)
    return [(item.rule, item.iteration_id) for item in found]


LOST = swept(*SWEEP, rest=((0.6, trained(bias_correct=BIAS)),))
"""Best is iter_2 (mse); iter_4 added bias correction and lost."""


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (trained(equalization=EQUALIZED), []),
        (trained(equalization=EQUALIZED, bias_correct=BIAS), [("mutate-from-best", 4)]),
        (trained(equalization=EQUALIZED, dispatching_table=int16("a")), [("one-change", 2)]),
        (make(calib_algorithm="mse", tqt_optimization=tqt(lr=5e-5, steps=2000)), []),
        (
            make(calib_algorithm="mse", tqt_optimization=tqt(lr=2e-5, steps=2000)),
            [("one-change", 2)],
        ),
        (make(calib_algorithm="mse", tqt_optimization=tqt(lr=1e-4)), [("tqt-limits", 2)]),
        (make(calib_algorithm="mse", tqt_optimization=tqt(steps=4000)), [("tqt-limits", 2)]),
        (make(calib_algorithm="mse", tqt_optimization=tqt(block_size=1)), [("tqt-limits", 2)]),
        (make(calib_algorithm="mse", tqt_optimization=tqt(block_size=6)), [("tqt-limits", 2)]),
        (make(calib_algorithm="mse", tqt_optimization=tqt(block_size=2)), []),
        (trained("minmax"), []),
        (trained("kl", bias_correct=BIAS), [("mutate-from-best", 1)]),
    ],
)
def test_phase_3(setting: Any, expected: Any) -> None:
    assert rules(setting, LOST) == expected


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"fusion_alignment": {"align_elementwise_to": "None"}}, "fusion_alignment.align_element"),
        ({"fusion_alignment": {"align_elementwise_to": "Align to Large"}}, "'Align to Large'"),
        ({"extra": {"fusion_setting.align_elementwise_to": "None"}}, "extra.fusion_setting.align"),
        ({"extra": {"fusion_setting": {"align_elementwise_to": "None"}}}, "extra.fusion_setting"),
        ({"extra": {"fusion": False}}, "extra.fusion is False"),
    ],
)
def test_what_leaves_an_add_with_several_exponents_is_named(fields: Any, place: Any) -> None:
    setting, past = trained(**fields), swept(*SWEEP)
    for names, rule in (((("a", "Add"),), True), ((("c", "Concat"),), False), ((), True)):
        ops = tuple(GraphOp(*name) for name in names)
        found = lint_setting(setting, SearchState.of(past, {2: evidence(ops=ops)}))
        told = [one.found for one in found if one.rule == "one-exponent"]
        assert bool(told) is rule
        assert not told or place in told[0]
    # In an empty folder nothing of the model is known.
    assert lint_setting(setting, SearchState.of(history()))[0].rule == "one-exponent"


def test_16_bits_for_what_has_8_alone_are_named() -> None:
    setting = trained(dispatching_table=[{"op": "a", "bits": 16}, {"op": "b", "bits": 8}])
    for kinds, is_named in ((("Resize", "Resize"), True), (("Conv", "Resize"), False)):
        ops = tuple(map(GraphOp, "ab", kinds))
        found = lint_setting(setting, SearchState.of(swept(*SWEEP), {2: evidence(ops=ops)}))
        told = [one.found for one in found if one.rule == "no-kernel"]
        assert bool(told) is is_named
        assert not told or "'a' is given 16 bits" in told[0]


def test_aligned_to_the_output_an_add_has_one_exponent() -> None:
    setting = trained(fusion_alignment={"align_elementwise_to": "Align to Output"})
    assert rules(setting, swept(*SWEEP)) == []


def test_null_means_another_calibration_at_16_bits() -> None:
    rows = [run(0, 0.5, baseline(0, 16), num_of_bits=16)]
    found = lint_setting(make(tqt_optimization=tqt()), SearchState.of(history(*rows)))
    assert [one.rule for one in found] == []
    found = lint_setting(make(calib_algorithm="mse"), SearchState.of(history(*rows)))
    assert [one.rule for one in found] == ["calibration-with-tqt"]
    assert lint_setting(make(bias_correct=BIAS), SearchState.of(history(*rows))) == []


def test_a_calibration_is_not_judged_without_tqt() -> None:
    past = history(run(0, 0.5))
    assert rules(make(calib_algorithm="percentile"), past) == [("calibration-with-tqt", 0)]
    assert rules(trained("percentile"), past) == []
    assert rules(trained("minmax"), past) == []


def test_phase_2_takes_calibration_and_default_tqt_as_one() -> None:
    past = swept(*SWEEP[:2])
    assert rules(trained("mse"), past) == []
    assert rules(trained("isotone"), past) == []
    assert rules(make(calib_algorithm="mse", tqt_optimization=tqt(steps=600)), past) != []


def test_phase_1_is_a_baseline() -> None:
    assert rules(baseline(), history()) == []
    assert rules(trained(bias_correct=BIAS, equalization=EQUALIZED), history()) == [
        ("one-change", None)
    ]


def further(path_field: str, lost: float, value: float) -> list[tuple[str, int | None]]:
    """A step on one TQT field lost; the next setting takes ``value``."""
    past = swept(
        *SWEEP,
        rest=((0.6, make(calib_algorithm="mse", tqt_optimization=tqt(**{path_field: lost}))),),
    )
    return rules(make(calib_algorithm="mse", tqt_optimization=tqt(**{path_field: value})), past)


def test_no_further_step_after_a_loss() -> None:
    assert further("steps", 1000, 2000) == [("no-further-step", 4)]
    assert further("lr", 2e-5, 5e-5) == [("no-further-step", 4)]
    assert further("block_size", 3, 2) == [("no-further-step", 4)]
    assert further("steps", 1000, 300) == []
    assert further("block_size", 3, 5) == []


def test_a_larger_int16_set_is_a_further_step() -> None:
    past = swept(
        *SWEEP,
        rest=(
            (0.8, trained(dispatching_table=int16("a"))),
            (0.7, trained(dispatching_table=int16("a", "b"))),
        ),
    )
    assert ("no-further-step", 5) in rules(trained(dispatching_table=int16("a", "b", "c")), past)
    assert rules(trained(dispatching_table=int16("a", "c")), past) == []


def test_a_loss_that_was_overtaken_since_binds_no_more() -> None:
    past = swept(
        *SWEEP,
        rest=(
            (0.6, make(calib_algorithm="mse", tqt_optimization=tqt(steps=600))),
            (0.8, make(calib_algorithm="mse", tqt_optimization=tqt(steps=1000))),
        ),
    )
    assert rules(make(calib_algorithm="mse", tqt_optimization=tqt(steps=1500)), past) == []


def in_phase_5() -> History:
    losing = tuple((0.5, trained(bias_correct={"enabled": True, "steps": 9 + i})) for i in range(5))
    return swept(*SWEEP, rest=losing)


@pytest.mark.parametrize(
    ("rationale", "expected"),
    [
        ("a guess", [("cite-evidence", 2)]),
        ("iter_99 says so", [("cite-evidence", 2)]),
        ("iter_2 is best, iter_4 showed a mean shift", []),
        ("Iter 2 and ITER-4", []),
    ],
)
def test_phase_5_several_changes_need_citations(rationale: Any, expected: Any) -> None:
    setting = trained(equalization=EQUALIZED, dispatching_table=int16("a"), rationale=rationale)
    assert rules(setting, in_phase_5()) == expected


def test_phase_5_one_change_needs_none_and_limits_are_off() -> None:
    assert rules(make(calib_algorithm="mse", tqt_optimization=tqt(steps=4000)), in_phase_5()) == []


def test_what_the_search_proposes_is_clean() -> None:
    past = swept(*SWEEP)
    for value in (0.71, 0.72, 0.6, 0.73, 0.6):
        decision = propose_on(past)
        assert rules(decision.setting, past) == []
        past = history(*past.iterations, run(len(past.iterations), value, decision.setting))


def test_3d_on_an_abbreviated_equalization_counts_as_one_change() -> None:
    past = swept(*SWEEP, rest=((0.8, trained(equalization={"enabled": True, "iterations": 3})),))
    assert rules(LEVERS["3d"].change(state_of(past)), past) == []


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (trained(bias_correct=BIAS, blockwise_reconstruction=BIAS, equalization=BIAS), "No"),
        (trained(dispatching_table=[{"op": "a", "bits": 8}]), "No"),
        (trained(weight_split={"enabled": False, "interested_layers": ["a"]}), "No"),
        (trained(dispatching_table=int16("a")), "Yes (int16 on 1 op: a)"),
        (
            trained(
                dispatching_table=int16("a", "b", "c", "d"),
                weight_split={"enabled": True, "interested_layers": ["s"]},
            ),
            "Yes (int16 on 4 ops: a, b, c, ...; weight_split on 1 layer: s)",
        ),
    ],
)
def test_runtime_cost(setting: Any, told: Any) -> None:
    assert str(runtime_cost(setting)) == told
    assert runtime_cost(setting).affects_inference_speed is told.startswith("Yes")
