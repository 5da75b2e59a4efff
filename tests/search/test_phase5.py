from __future__ import annotations

from typing import Any

import pytest

from espdl_quantize.record import History, Jump
from espdl_quantize.search import sweep_setting
from espdl_quantize.search.phase5 import classify, lever_stack, tunables
from espdl_quantize.setting import baseline
from tests.search.made_runs import (
    EQUALIZED,
    SWEEP,
    Run,
    evidence,
    history,
    hot,
    make,
    open_on,
    run,
    swept,
    tqt,
    trained,
)

BIAS = {"enabled": True}


def int16(*ops: str) -> list[dict[str, Any]]:
    return [{"op": op, "bits": 16} for op in ops]


def split(*ops: str) -> dict[str, Any]:
    return {"enabled": True, "interested_layers": list(ops)}


@pytest.mark.parametrize(
    ("before", "after", "patterns"),
    [
        (trained(), trained(), set()),
        (trained(), make(calib_algorithm="mse", tqt_optimization=tqt(steps=900)), set()),
        (trained(), trained(bias_correct=BIAS), {"5alpha"}),
        (trained(), trained(fusion_alignment={"align_concat_to": "Align to Large"}), {"5alpha"}),
        (trained(), trained(dispatching_table=int16("a")), {"5alpha"}),
        (trained("kl"), trained("mse"), {"5beta"}),
        (trained(bias_correct=BIAS), trained(), {"5gamma"}),
        (trained(dispatching_table=int16("a")), trained(), {"5gamma"}),
        (trained(dispatching_table=int16("a")), trained(dispatching_table=int16("b")), {"5delta"}),
        (trained(weight_split=split("a")), trained(weight_split=split("a", "b")), {"5delta"}),
        (
            trained("kl", bias_correct=BIAS),
            trained("mse", equalization=EQUALIZED),
            {"5alpha", "5beta", "5gamma"},
        ),
        (trained(dispatching_table=[{"op": "a", "bits": 8}]), trained(), set()),
    ],
)
def test_patterns(before: Any, after: Any, patterns: Any) -> None:
    assert classify(before, after) == patterns


def opened(*further: Run) -> History:
    """Phase 5 after five losing levers, then ``further`` (value, setting) pairs."""
    losing = tuple(
        (0.5, trained(bias_correct={"enabled": True, "steps": 10 + i})) for i in range(5)
    )
    return swept(*SWEEP, rest=losing + further)


def test_cutoff_and_counts() -> None:
    signals = open_on(opened((0.5, trained("kl", equalization=EQUALIZED)))).signals
    assert signals.phase5_cutoff_iter_id == 8
    assert signals.phase5_iteration_count == 1
    assert signals.iteration_count_total == 10
    assert signals.phase5_pattern_coverage == {
        "5alpha": (9,),
        "5beta": (9,),
        "5gamma": (),
        "5delta": (),
    }
    assert signals.untried_phase5_patterns == ("5gamma", "5delta")


def test_moves_before_phase_5_cover_nothing() -> None:
    assert open_on(opened()).signals.untried_phase5_patterns == (
        "5alpha",
        "5beta",
        "5gamma",
        "5delta",
    )


def test_5beta_is_owed_again_once_the_stack_is_deeper() -> None:
    past = opened(
        (0.6, trained("percentile")),  # 5beta on {tqt}
        (0.8, trained("mse", equalization=EQUALIZED)),  # best, on {tqt, equalization}
    )
    signals = open_on(past).signals
    assert signals.untried_5beta_reapply == ("kl", "percentile")
    assert "5beta" in signals.untried_phase5_patterns
    retested = opened(
        (0.6, trained("percentile")),
        (0.8, trained("mse", equalization=EQUALIZED)),
        (0.7, trained("percentile", equalization=EQUALIZED)),
        (0.7, trained("kl", equalization=EQUALIZED)),
    )
    signals = open_on(retested).signals
    assert signals.untried_5beta_reapply == ()
    assert "5beta" not in signals.untried_phase5_patterns


def test_calibrations_of_the_sweep_are_owed_on_a_deeper_stack() -> None:
    deeper = opened((0.8, trained("mse", equalization=EQUALIZED)))
    assert open_on(deeper).signals.untried_5beta_reapply == ("kl", "percentile")
    assert not open_on(deeper).signals.is_covered


def test_a_calibration_that_never_scored_is_not_owed() -> None:
    rows = list(opened((0.8, trained("mse", equalization=EQUALIZED))).iterations)
    rows[3] = run(3, None, rows[3].setting)
    signals = open_on(history(*rows)).signals
    assert signals.untried_5beta_reapply == ("kl",)


def test_incomparable_stacks_ask_for_nothing() -> None:
    past = opened(
        (0.6, trained("minmax", dispatching_table=int16("a"))),
        (0.8, trained("mse", equalization=EQUALIZED)),
    )
    assert "minmax" not in open_on(past).signals.untried_5beta_reapply
    other_ops = opened(
        (0.6, trained("minmax", dispatching_table=int16("a"))),
        (0.8, trained("mse", equalization=EQUALIZED, dispatching_table=int16("b"))),
    )
    assert "minmax" not in open_on(other_ops).signals.untried_5beta_reapply


def test_a_failed_iteration_covers_its_pattern() -> None:
    signals = open_on(opened((None, trained("kl")))).signals
    assert signals.phase5_pattern_coverage["5beta"] == (9,)


def test_calib_swaps_on_the_stack_of_best() -> None:
    signals = open_on(opened((0.8, trained("mse", equalization=EQUALIZED)))).signals
    assert signals.untried_calib_swaps == ("kl", "percentile")
    assert open_on(opened()).signals.untried_calib_swaps == ()


@pytest.mark.parametrize("sign", [1, -1])
def test_levers_that_gained_and_lost(sign: Any) -> None:
    direction = "max" if sign == 1 else "min"
    values = (0.5, 0.6, 0.7, 0.65, 0.8, 0.4, 0.4, 0.4, 0.4)
    settings = [
        baseline(),
        sweep_setting("kl"),
        sweep_setting("mse"),
        sweep_setting("percentile"),
        trained(bias_correct=BIAS),
    ]
    settings += [trained(bias_correct={"enabled": True, "steps": i}) for i in range(1, 5)]
    rows = [
        run(i, sign * v, s, direction=direction)
        for i, (v, s) in enumerate(zip(values, settings, strict=True))
    ]
    signals = open_on(history(*rows)).signals
    assert [(row.iter, row.added_pass) for row in signals.improving_levers] == [
        (1, "tqt_optimization"),
        (2, "calib_algorithm kl -> mse"),
        (4, "bias_correct"),
    ]
    assert signals.improving_levers[2].delta_vs_prior_best == pytest.approx(0.1)
    assert [row.iter for row in signals.regressing_levers] == [3, 5, 6, 7, 8]
    assert all(row.delta_vs_prior_best < 0 for row in signals.regressing_levers)


def test_evidence_of_best_is_in_the_signals() -> None:
    found = evidence(hot_ops=(hot("Add", 0.25),), jumps=(Jump("conv0", "conv1", 0.03, ("relu",)),))
    signals = open_on(opened(), found).signals
    assert signals.top_error_layers[0] == {"op": "conv0", "snr": 0.04}
    assert signals.non_computing_hot_ops_top3[0]["op"] == "add_1"
    assert signals.graphwise_jumps_top3[0]["between"] == ("relu",)
    assert signals.artifacts_to_read[0] == "iter_2/layerwise_error.json"
    assert signals.best_setting_summary["calib_algorithm"] == "mse"


def covered(last: float = 0.5) -> History:
    """Every pattern and every lever that applies was tried, and nothing gained lately."""
    full = {"bias_correct": BIAS, "equalization": EQUALIZED}
    return opened(
        (0.5, make(calib_algorithm="mse", tqt_optimization=tqt(steps=1000))),
        (0.8, trained("mse", **full, dispatching_table=int16("a"))),
        (0.5, trained("kl", **full, dispatching_table=int16("a"))),
        (0.5, trained("mse", **full, dispatching_table=int16("b"))),
        (0.5, trained("mse", **full)),
        (0.5, trained("percentile", **full, dispatching_table=int16("a"))),
        (last, trained("mse", **full, dispatching_table=int16("a"), blockwise_reconstruction=BIAS)),
    )


def test_coverage_is_exhausted_without_a_budget_only() -> None:
    decision = open_on(covered())
    assert decision.signals.is_covered
    assert decision.phase == "phase-5-agent-driven"
    assert decision.is_exhausted
    assert not open_on(covered(), user_budget=True).is_exhausted


def test_coverage_is_not_exhausted_right_after_a_new_best() -> None:
    assert not open_on(covered(last=0.9)).is_exhausted


def test_a_stack_is_the_passes_and_the_ops() -> None:
    setting = trained(bias_correct=BIAS, dispatching_table=int16("a"), weight_split=split("s"))
    assert lever_stack(setting) == {
        "tqt_optimization",
        "bias_correct",
        "weight_split",
        "int16 a",
        "split s",
    }


def test_tunables_are_those_of_the_passes_that_run() -> None:
    paths = [item.path for item in tunables(trained("percentile", equalization={"enabled": False}))]
    assert paths == [
        "tqt_optimization.lr",
        "tqt_optimization.steps",
        "tqt_optimization.block_size",
        "percentile",
    ]


def test_advice_names_what_to_stack_and_what_is_untried() -> None:
    advice = open_on(opened()).advice
    for told in ("Stack what gained", "iter_2", "3a-1", "5gamma"):
        assert told in advice


def test_advice_does_not_warn_of_a_calibration() -> None:
    """It may win on another stack."""
    advice = open_on(opened()).advice
    lost = advice.split("These lost")[1]
    assert "iter_4 (bias_correct)" in lost
    assert "iter_3" not in lost
