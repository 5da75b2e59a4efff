from __future__ import annotations

from typing import Any

import pytest

from espdl_quantize.record import LayerError
from espdl_quantize.search import (
    DEFAULT_THRESHOLDS,
    LEVERS,
    Proposal,
    SearchState,
    Stop,
    decide,
    sweep_setting,
)
from espdl_quantize.search import SWEEP as SWEEP_POINTS
from espdl_quantize.setting import baseline, canonical, diff
from tests.search.made_runs import (
    SWEEP,
    decide_on,
    evidence,
    history,
    hot,
    known,
    lever_of,
    make,
    open_on,
    propose_on,
    run,
    state_of,
    swept,
    tqt,
    trained,
)

LONGER = make(calib_algorithm="mse", tqt_optimization=tqt(steps=1000))
STRONGER = make(calib_algorithm="mse", tqt_optimization=tqt(lr=5e-5, steps=2000))
PLAIN_TQT = {"enabled": True, "lr": 1e-5, "steps": 500, "block_size": 4}


def test_rule_1_an_empty_folder_gets_a_baseline() -> None:
    decision = decide(SearchState.of(history()))
    assert decision.phase == "phase-1-baseline"
    # Of what width the contract is, an empty folder does not say: the run fills it in.
    assert isinstance(decision, Proposal)
    assert decision.setting == baseline(0, num_of_bits=None)
    for bits, calibration in ((8, "kl"), (16, "minmax")):
        found = propose_on(history(), num_of_bits=bits).setting
        assert found == baseline(0, bits)
        assert found.calib_algorithm == calibration


@pytest.mark.parametrize(
    ("direction", "values", "target", "stops"),
    [
        ("max", (0.5,), 0.5, True),
        ("max", (0.5,), 0.51, False),
        ("min", (0.5,), 0.5, True),
        ("min", (0.5,), 0.49, False),
        ("max", (0.9, 0.1), 0.8, True),
    ],
)
def test_rule_2_any_iteration_may_meet_the_target(
    direction: Any, values: Any, target: Any, stops: Any
) -> None:
    rows = [run(i, v, direction=direction, target=target) for i, v in enumerate(values)]
    decision = decide_on(history(*rows))
    assert (decision.phase == "phase-4-final-report") is stops
    assert (isinstance(decision, Stop) and decision.category == "target_reached") is stops


def test_rule_2_the_target_of_the_latest_iteration_counts() -> None:
    rows = run(0, 0.5, target=0.4), run(1, 0.5, sweep_setting("kl"), target=0.9)
    assert decide_on(history(*rows)).phase == "phase-2-calib-tqt-sweep"


def test_rule_3_runs_the_sweep_in_order() -> None:
    values = SWEEP
    for count, calibration in enumerate(SWEEP_POINTS, start=1):
        decision = propose_on(swept(*values[:count]))
        assert decision.phase == "phase-2-calib-tqt-sweep"
        assert decision.lever is None
        assert canonical(decision.setting) == canonical(sweep_setting(calibration))
        assert decision.setting.iteration_id == count


@pytest.mark.parametrize(
    "extra",
    [
        {"bias_correct": {"enabled": True}},
        {"equalization": {"enabled": True}},
        {"weight_split": {"enabled": True, "interested_layers": ["a"]}},
        {"blockwise_reconstruction": {"enabled": True}},
        {"dispatching_table": [{"op": "a", "bits": 16}]},
        {"fusion_alignment": {"align_concat_to": "Align to Large"}},
        {"tqt_optimization": tqt(steps=501)},
        {"tqt_optimization": tqt(lr=2e-5)},
        {"tqt_optimization": tqt(block_size=2)},
        {"tqt_optimization": {"enabled": False}},
    ],
)
def test_rule_3_only_the_exact_point_covers_it(extra: Any) -> None:
    past = history(
        run(0, 0.5),
        run(1, 0.6, make(calib_algorithm="kl", **{"tqt_optimization": PLAIN_TQT, **extra})),
    )
    assert propose_on(past).setting.calib_algorithm == "kl"


def test_rule_3_comes_before_any_count_of_iterations() -> None:
    rows = [run(i, 0.5 + i / 100, make(bias_correct={"enabled": True})) for i in range(12)]
    assert decide_on(history(*rows)).phase == "phase-2-calib-tqt-sweep"


def test_rule_3_disabled_and_empty_sections_are_nothing_enabled() -> None:
    covered = make(
        calib_algorithm="KL",
        tqt_optimization={**PLAIN_TQT, "collecting_device": "cuda", "interested_layers": []},
        bias_correct={"enabled": False},
        fusion_alignment={},
        dispatching_table=[],
    )
    assert propose_on(history(run(0, 0.5), run(1, 0.6, covered))).setting.calib_algorithm == "mse"


def test_a_failed_iteration_covers_its_point_and_is_named() -> None:
    past = history(run(0, 0.5), run(1, None, sweep_setting("kl")))
    decision = propose_on(past)
    assert decision.setting.calib_algorithm == "mse"
    assert [item.id for item in past.failed] == [1]


def test_a_failed_iteration_covers_its_lever() -> None:
    decision = propose_on(swept(*SWEEP, rest=((None, LONGER),)))
    assert decision.lever == "3b"
    assert decision.skipped[0].lever == "3a-2"
    assert "no positive net effect" in decision.skipped[0].reason


def top5(*names: str) -> tuple[LayerError, ...]:
    return tuple(LayerError(name, 0.05) for name in names)


@pytest.mark.parametrize(
    ("value", "new_layer", "fires"),
    [
        (0.699, "quiet", True),
        (0.6965 + 1e-6, "quiet", True),
        (0.6964, "quiet", False),  # lost more than 0.5 %
        (0.70, "quiet", False),  # a tie lost nothing
        (0.699, "a", False),  # no new layer among the worst
    ],
)
def test_rule_4_path_1_of_3a_3(value: Any, new_layer: Any, fires: Any) -> None:
    past = swept(*SWEEP, top_5_error_layers=top5("a", "b"))
    latest = run(4, value, LONGER, top_5_error_layers=top5("a", new_layer))
    decision = decide_on(history(*past.iterations, latest))
    assert (lever_of(decision) == "3a-3") is fires
    if fires:
        assert isinstance(decision, Proposal)
        assert decision.phase == "phase-3-residual"
        assert [change.path for change in diff(sweep_setting("mse"), decision.setting)] == [
            "tqt_optimization.block_size"
        ]
        assert "quiet" in decision.setting.rationale


def test_rule_4_comes_before_plateau_and_cap_and_only_once() -> None:
    flat = swept(0.7, 0.7, 0.7, 0.7, top_5_error_layers=top5("a"))
    rows = (
        *flat.iterations,
        run(4, 0.6999, make(tqt_optimization=tqt(steps=1000)), top_5_error_layers=top5("z")),
    )
    # Best is the baseline, which has no TQT whose blocks could be smaller.
    assert decide_on(history(*rows)).phase == "phase-4-final-report"
    rows = (
        *swept(0.5, 0.6999, 0.7, 0.6999, top_5_error_layers=top5("a")).iterations,
        run(4, 0.6999, LONGER, top_5_error_layers=top5("z")),
    )
    assert lever_of(decide_on(history(*rows))) == "3a-3"
    tried = (*rows, run(5, 0.6999, make(tqt_optimization=tqt(block_size=2))))
    assert decide_on(history(*tried)).phase == "phase-4-final-report"


def test_rule_4_needs_the_latest_to_have_pulled_the_lever_itself() -> None:
    past = swept(*SWEEP, rest=((0.71, LONGER),), top_5_error_layers=top5("a"))
    later = run(
        5,
        0.7095,
        LONGER.model_copy(
            update={"bias_correct": make(bias_correct={"enabled": True}).bias_correct}
        ),
        top_5_error_layers=top5("z"),
    )
    assert lever_of(decide_on(history(*past.iterations, later))) != "3a-3"


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ((0.5, 0.7, 0.7, 0.7), True),  # best among the last three
        ((0.7, 0.7, 0.7), False),  # fewer than four
        ((0.7, 0.6995, 0.6994, 0.6993), True),
        ((1.0, 0.999, 0.999, 0.999), True),  # exactly 0.1 %
        ((1.0, 0.9989, 0.999, 0.999), False),
        ((0.5, 0.7, None, 0.7, 0.7), False),  # a failure is not flat
        ((0.0, 0.0, 0.0, 0.0), True),
        ((0.0, 0.0, 0.0, -0.1), False),
    ],
)
@pytest.mark.parametrize("direction", ["max", "min"])
def test_rule_5_plateau(values: Any, flat: Any, direction: Any) -> None:
    sign = 1 if direction == "max" else -1
    settings = [
        sweep_setting("kl"),
        sweep_setting("mse"),
        sweep_setting("percentile"),
        baseline(),
        baseline(),
    ]
    rows = [
        run(i, v if v is None else sign * v, s, direction=direction)
        for i, (v, s) in enumerate(zip(values, settings, strict=False))
    ]
    decision = decide_on(history(*rows))
    assert (decision.phase == "phase-4-final-report") is flat
    if flat:
        assert isinstance(decision, Stop)
        assert decision.category == "plateau"


def test_rule_5_holds_in_phase_5() -> None:
    rest = tuple((0.6 - i / 100, trained(bias_correct={"enabled": True})) for i in range(6))
    past = swept(*SWEEP, rest=rest)
    assert decide_on(past).phase == "phase-5-agent-driven"
    flat = [run(10 + i, 0.7, trained()) for i in range(3)]
    assert decide_on(history(*past.iterations, *flat)).phase == "phase-4-final-report"


def test_rule_6_five_iterations_after_the_sweep() -> None:
    rest = tuple((0.60 + i / 100, trained(bias_correct={"enabled": True})) for i in range(5))
    assert decide_on(swept(*SWEEP, rest=rest[:4])).phase.startswith("phase-3")
    decision = open_on(swept(*SWEEP, rest=rest))
    assert decision.phase == "phase-5-agent-driven"
    assert decision.signals.untried_phase3_levers == ("3a-1", "3d", "3e", "3g")
    assert decision.signals.phase5_cutoff_iter_id == 8
    assert decision.signals.phase5_iteration_count == 0


def test_rule_6_counts_only_what_ran_after_the_sweep() -> None:
    early = [run(i, 0.5, make(bias_correct={"enabled": True})) for i in range(6)]
    sweep = [
        run(6 + i, v, sweep_setting(c))
        for i, (v, c) in enumerate(zip((0.6, 0.7, 0.65), SWEEP_POINTS, strict=True))
    ]
    assert decide_on(history(*early, *sweep)).phase.startswith("phase-3")


def test_rule_7_pivots_after_two_losses() -> None:
    past = swept(0.5, 0.7, 0.6, 0.65)
    assert decide_on(past).phase == "phase-3-pivot"
    assert decide_on(swept(*SWEEP)).phase == "phase-3-residual"
    failed = swept(*SWEEP, rest=((None, LONGER),))
    assert decide_on(failed).phase == "phase-3-residual"


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        ("balanced", ["3a-1", "3b", "3d", "3e", "3g"]),
        ("pc_time", ["3a-1", "3b", "3d", "3e", "3g"]),
        ("speed", ["3a-1", "3b", "3d", "3g", "3e"]),
    ],
)
def test_rule_7_walks_the_levers_in_order(priority: Any, expected: Any) -> None:
    past, seen = swept(*SWEEP), []
    for step in range(5):
        decision = propose_on(past, priority=priority)
        seen.append(decision.lever)
        past = history(*past.iterations, run(4 + step, 0.5, decision.setting))
    assert seen == expected
    assert decide_on(past, priority=priority).phase == "phase-5-agent-driven"


def test_rule_7_path_2_of_3a_3_when_escalation_converged() -> None:
    past = swept(*SWEEP, rest=((0.71, LONGER), (0.72, STRONGER)))
    decision = propose_on(past)
    assert decision.lever == "3a-3"
    assert canonical(decision.setting)["tqt_optimization"]["steps"] == 2000
    assert canonical(decision.setting)["tqt_optimization"]["block_size"] == 2


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        (((0.71, LONGER), (0.715, STRONGER)), {"hot_ops": (hot("Add", 0.264),)}),
        (((0.71, LONGER), (0.705, STRONGER)), {}),
        (((0.71, LONGER), (0.72, STRONGER), (0.6, trained(bias_correct={"enabled": True}))), {}),
        (((0.71, LONGER), (0.72, STRONGER), (0.6, make(tqt_optimization=tqt(block_size=2)))), {}),
    ],
    ids=["R8 matches", "3a-2 did not gain", "3b was tried", "3a-3 was tried"],
)
def test_rule_7_path_2_closed(rest: Any, found: Any) -> None:
    assert lever_of(decide_on(swept(*SWEEP, rest=rest), evidence(**found))) != "3a-3"


def test_3a_2_follows_a_gain_of_3a_1_only() -> None:
    assert lever_of(decide_on(swept(*SWEEP, rest=((0.71, LONGER),)))) == "3a-2"
    decision = propose_on(swept(*SWEEP, rest=((0.6, LONGER),)))
    assert decision.lever == "3b"
    assert [skip.lever for skip in decision.skipped] == ["3a-2"]


def test_tqt_levers_are_skipped_where_training_did_not_help() -> None:
    decision = propose_on(swept(0.8, 0.6, 0.7, 0.65))
    assert decision.lever == "3b"
    assert [skip.lever for skip in decision.skipped] == ["3a-1", "3a-2"]


def test_rule_8_nothing_left() -> None:
    """Four levers in one run, so that the list ends before the cap."""
    everything = trained(
        bias_correct={"enabled": True},
        equalization={"enabled": True, "opt_level": 2},
        dispatching_table=[{"op": "conv0", "bits": 16}],
        blockwise_reconstruction={"enabled": True},
    )
    decision = open_on(swept(*SWEEP, rest=((0.6, everything), (0.6, LONGER))))
    assert decision.phase == "phase-5-agent-driven"
    assert {skip.lever for skip in decision.skipped} == {"3a-2", "3c", "3f"}
    assert decision.signals.phase5_cutoff_iter_id == 5


def test_all_failed_ends_in_phase_5_with_advice() -> None:
    rows = [
        run(i, None, s)
        for i, s in enumerate(
            (baseline(), sweep_setting("kl"), sweep_setting("mse"), sweep_setting("percentile"))
        )
    ]
    decision = open_on(history(*rows))
    assert decision.phase == "phase-5-agent-driven"
    assert not decision.is_exhausted


def test_a_best_without_a_usable_setting_is_no_base() -> None:
    rows = swept(*SWEEP).iterations
    from dataclasses import replace

    past = history(rows[0], rows[1], rows[2], rows[3], replace(run(4, 0.9), setting=None))
    decision = decide_on(past)
    assert decision.phase == "phase-5-agent-driven"
    assert "no usable setting" in decision.skipped[0].reason


def test_ties_go_to_the_smaller_id() -> None:
    assert known(swept(0.5, 0.7, 0.7, 0.65).best).id == 1
    rows = [run(i, v, direction="min") for i, v in enumerate((0.5, 0.2, 0.2))]
    assert known(history(*rows).best).id == 1


def test_rationales_cite_numbers_of_best() -> None:
    decision = propose_on(swept(*SWEEP), evidence(hot_ops=(hot("Add", 0.264),)))
    for cited in ("iter_2", "0.7", "conv0", "0.04", "add_1", "0.264"):
        assert cited in decision.setting.rationale


def test_next_id_is_above_every_folder_that_holds_work() -> None:
    past = history(*swept(*SWEEP).iterations, reserved_ids=(7,))
    assert propose_on(past).setting.iteration_id == 8


def test_levers_stay_within_the_limits_of_phase_3() -> None:
    past = swept(*SWEEP, rest=((0.71, LONGER),))
    for name in ("3a-1", "3a-2", "3a-3"):
        setting = LEVERS[name].change(state_of(past))
        section = known(setting.tqt_optimization)
        assert section.lr < DEFAULT_THRESHOLDS.training_lr_limit
        assert section.steps < DEFAULT_THRESHOLDS.training_steps_limit
        assert 1 < section.block_size < DEFAULT_THRESHOLDS.training_block_limit
