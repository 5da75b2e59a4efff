from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from espdl_quantize.record import Evidence, GraphOp, LayerError, VariableStats
from espdl_quantize.search import DEFAULT_THRESHOLDS as LIMITS
from espdl_quantize.search import find_triggers
from espdl_quantize.search.triggers import gap_points, judge_r8
from tests.search.made_runs import evidence, hot, weight


@pytest.mark.parametrize(
    ("hot_ops", "fires"),
    [
        # Three runs whose outcome is known: alignment gained, lost, lost.
        ((hot("Concat", 0.264),), True),
        ((hot("Concat", 0.318),), False),
        ((hot("Concat", 0.094),), False),
        # Edges of the band.
        ((hot("Add", 0.20),), False),
        ((hot("Add", 0.2001),), True),
        ((hot("Add", 0.30),), True),
        ((hot("Add", 0.3001),), False),
        # Uneven inputs are sufficient alone.
        ((hot("Add", 0.05, 5.1),), True),
        ((hot("Add", 0.05, 5.0),), False),
        ((hot("Add", 0.9, 6.0),), True),
        ((hot("Add", 0.05, None),), False),
        # The veto is over both, within the top three.
        ((hot("Relu", 0.31), hot("Add", 0.25)), False),
        ((hot("Relu", 0.30), hot("Add", 0.25)), True),
        ((hot("Swish", 0.9), hot("Add", 0.25, 9.0)), False),
        ((hot("Clip", 0.9), hot("Add", 0.25)), False),
        ((hot("Sigmoid", 0.9), hot("Add", 0.25)), False),
        ((hot("HardSwish", 0.9), hot("Add", 0.25)), False),
        ((hot("Softmax", 0.9), hot("Add", 0.25)), True),
        (
            (
                hot("Gelu", 0.9),
                hot("Gelu", 0.8),
                hot("Gelu", 0.7),
                hot("Relu", 0.6),
                hot("Add", 0.25),
            ),
            True,
        ),
        # The candidate is the worst of its kind.
        ((hot("Mul", 0.4), hot("Add", 0.25)), False),
        ((hot("Softmax", 0.25),), False),
        ((), False),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_r8(hot_ops: Any, fires: Any, order: Any) -> None:
    verdict = judge_r8(evidence(hot_ops=hot_ops[::order]), LIMITS)
    assert verdict.fires is fires
    assert verdict.reason


@pytest.mark.parametrize("op_type", ["Concat", "Add", "Sub", "Mul", "Resize", "AveragePool"])
def test_r8_candidates(op_type: Any) -> None:
    assert judge_r8(evidence(hot_ops=(hot(op_type, 0.25),)), LIMITS).fires


def activation(op: str = "conv0", **fields: Any) -> VariableStats:
    fields = {"is_input": True, **fields}
    return VariableStats(op, "Conv", "x0", **fields)


def output(mean: float | None, std: float | None, op: str = "conv0") -> VariableStats:
    return VariableStats(op, "Conv", "x1", is_output=True, noise_mean=mean, noise_std=std)


TWO_PEAKS = (10.0, 90.0, 100.0, 5.0, 4.0, 3.0, 80.0, 70.0)
ONE_PEAK = (1.0, 5.0, 20.0, 60.0, 100.0, 60.0, 20.0, 5.0)


@pytest.mark.parametrize(
    ("rule", "stats"),
    [
        ("R1", activation(float_kurtosis=6.1)),
        ("R1", activation(float_max=7.0, float_min=0.0, float_std=1.0)),
        (
            "R1",
            activation(
                float_mean=0.0,
                float_std=1.0,
                float_min=0.0,
                float_max=5.9,
                float_hist=(99.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
            ),
        ),
        ("R2", activation(float_hist=TWO_PEAKS)),
        (
            "R2",
            activation(
                float_hist=(1.0, 30.0, 28.0, 10.0, 12.0, 25.0, 24.0),
                float_skewness=0.0,
                float_mean=0.5,
                float_min=0.0,
                float_max=1.0,
            ),
        ),
        (
            "R2",  # the smaller peak is too low to count as one, the valley lies at the mean
            activation(
                float_hist=(100.0, 1.0, 20.0),
                float_skewness=0.2,
                float_mean=0.5,
                float_min=0.0,
                float_max=1.0,
            ),
        ),
        ("R3", weight("conv0", 8.1)),
        ("R4", weight("conv0", 10.1, float_max=9.0, float_min=0.0, float_std=1.0)),
        ("R5", output(0.02, 0.1)),
        ("R5", output(-0.02, 0.1)),
    ],
)
def test_distribution_triggers(rule: Any, stats: Any) -> None:
    found = find_triggers(evidence(stats=(stats,)), equalization_failed=True)
    matching = [finding for finding in found if finding.rule == rule]
    assert matching
    assert "conv0" in matching[0].text
    assert matching[0].ops[0] == "conv0"


@pytest.mark.parametrize(
    "stats",
    [
        activation(float_kurtosis=6.0),
        activation(),
        activation(float_hist=ONE_PEAK),
        activation(float_max=3.0, float_min=-3.0, float_std=0.0),
        weight("conv0", None),
        weight("conv0", 8.0),
        output(0.01, 0.1),
        output(None, 0.1),
        output(0.5, None),
        output(0.5, 0.0),
    ],
)
def test_distribution_triggers_that_do_not_match(stats: Any) -> None:
    assert find_triggers(evidence(stats=(stats,)), equalization_failed=True) == []


def test_r3_needs_a_chain_of_convolutions() -> None:
    lone = (
        GraphOp("conv0", "Conv", ("x", "w0", "b"), ("y",)),
        GraphOp("s", "Softmax", ("y",), ("z",)),
    )
    assert not find_triggers(evidence(stats=(weight("conv0", 20.0),), ops=lone))
    chain = (
        lone[0],
        GraphOp("r", "Relu", ("y",), ("z",)),
        GraphOp("conv1", "Conv", ("z", "w1", "b"), ("q",)),
    )
    assert find_triggers(evidence(stats=(weight("conv0", 20.0),), ops=chain))[0].rule == "R3"


def test_r4_waits_for_equalization() -> None:
    stats = weight("conv0", 20.0, float_max=9.0, float_min=0.0, float_std=1.0)
    assert "R4" not in rules(evidence(stats=(stats,)))


def test_r5_needs_a_bias() -> None:
    no_bias = tuple(dataclasses.replace(op, inputs=op.inputs[:2]) for op in evidence().ops)
    assert "R5" not in rules(evidence(stats=(output(0.5, 0.1),), ops=no_bias))


def rules(found: Evidence, **context: Any) -> list[str]:
    return [finding.rule for finding in find_triggers(found, **context)]


def layers(*snrs: float) -> tuple[LayerError, ...]:
    return tuple(LayerError(f"conv{i}", snr) for i, snr in enumerate(snrs))


def test_layer_triggers() -> None:
    assert rules(evidence(layerwise=layers(0.5, 0.1, 0.1, 0.1, 0.1))) == ["R6"]
    assert rules(evidence(layerwise=layers(0.15, 0.14, 0.13, 0.12, 0.11))) == ["R7"]
    assert rules(evidence(layerwise=layers(0.04, 0.04, 0.04, 0.04, 0.04))) == []
    assert rules(evidence(layerwise=layers(0.1, 0.06, 0.06, 0.06))) == ["R9"]
    assert rules(evidence(hot_ops=(hot("Softmax", 0.06),))) == ["R9"]
    assert rules(evidence(), all_tried=True, points_to_target=5.1) == ["R10"]
    assert rules(evidence(), all_tried=True, points_to_target=5.0) == []


def test_r9_outranks_r6_on_the_same_op() -> None:
    gru = (GraphOp("conv0", "GRU"),)
    assert rules(evidence(layerwise=layers(0.5, 0.1, 0.1, 0.1, 0.1), ops=gru)) == ["R9"]


def test_points_of_a_fraction_are_hundredths() -> None:
    assert gap_points(0.70, 0.76) == pytest.approx(6)
    assert gap_points(70.0, 76.0) == pytest.approx(6)


def test_no_evidence_matches_nothing() -> None:
    assert find_triggers(Evidence(), equalization_failed=True) == []
