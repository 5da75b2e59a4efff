from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from espdl_quantize.core import Priority
from espdl_quantize.record import Evidence, GraphOp, LayerError, VariableStats
from espdl_quantize.search import DEFAULT_THRESHOLDS, LEVERS, Judgement, SearchState, linear_order
from espdl_quantize.setting import Setting, diff, runtime_cost
from tests.search.made_runs import (
    EQUALIZED,
    SWEEP,
    evidence,
    history,
    hot,
    known,
    make,
    state_of,
    swept,
    tqt,
    trained,
    weight,
)


def context(base: Setting | None = None, **found: Any) -> SearchState:
    """Best is iter_2; where a setting is given, it is the one that best has."""
    past = swept(*SWEEP)
    if base is not None:
        rows = (replace(item, setting=base) if item.id == 2 else item for item in past.iterations)
        past = history(*rows)
    return state_of(past, evidence(**found), target=0.9)


WHERE_IT_APPLIES: dict[str, dict[str, Any]] = {
    "3c": {"hot_ops": (hot("Concat", 0.25),)},
    "3f": {"stats": (weight("conv1", 12.0),)},
    "3h": {
        "stats": (
            weight("conv1", 12.0, float_max=4.0, float_min=-1.0),
            weight("conv2", 1.0, float_max=0.5, float_min=-0.8),
        )
    },
}


@pytest.mark.parametrize("name", [name for name in LEVERS if name not in {"3a-2", "3i", "3j"}])
def test_a_lever_makes_one_change_that_it_recognises(name: Any) -> None:
    given = context(**WHERE_IT_APPLIES.get(name, {}))
    lever = LEVERS[name]
    assert lever.applies(given).applies
    assert lever.applies(given).reason
    assert not lever.marks(given.base)
    changed = lever.change(given)
    assert lever.marks(changed)
    assert len(diff(given.base, changed)) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("3a-1", {"lr": 1e-5, "steps": 1000, "block_size": 2}),
        ("3a-2", {"lr": 5e-5, "steps": 2000, "block_size": 2}),
    ],
)
def test_tqt_levers_keep_the_block_size_of_best(name: Any, expected: Any) -> None:
    base = make(tqt_optimization=tqt(block_size=2))
    section = LEVERS[name].change(context(base)).tqt_optimization
    assert {field: getattr(section, field) for field in expected} == expected


def test_3a_3_keeps_the_schedule_of_best() -> None:
    changed = LEVERS["3a-3"].change(context(make(tqt_optimization=tqt(lr=5e-5, steps=2000))))
    section = known(changed.tqt_optimization)
    assert (section.lr, section.steps) == (5e-5, 2000)
    assert section.block_size == 2


def test_3d_spells_out_every_parameter() -> None:
    section = known(LEVERS["3d"].change(context()).equalization)
    assert section.model_dump(exclude={"interested_layers"}) == {
        "enabled": True,
        "iterations": 10,
        "value_threshold": 0.5,
        "opt_level": 2,
        "including_bias": False,
        "including_act": False,
    }
    assert "opt_level" in section.model_fields_set


def test_3d_is_not_tried_by_an_abbreviated_setting() -> None:
    assert not LEVERS["3d"].marks(make(equalization={"enabled": True}))
    assert LEVERS["3d"].marks(make(equalization=EQUALIZED))


@pytest.mark.parametrize(
    ("op_type", "told"), [("Add", "raw integers"), ("Sub", "raw integers"), ("Mul", "no alignment")]
)
def test_3c_proposes_nothing_that_the_chip_cannot_run(op_type: Any, told: Any) -> None:
    given = context(hot_ops=(hot(op_type, 0.25), hot("Concat", 0.24)))
    verdict = LEVERS["3c"].applies(given)
    assert not verdict.applies
    assert f"{op_type} {op_type.lower()}_1 has max SNR 0.25" in verdict.reason
    assert told in verdict.reason
    with pytest.raises(ValueError, match="3c does not apply"):
        LEVERS["3c"].change(given)


@pytest.mark.parametrize(
    ("op_type", "key", "value"),
    [
        ("Concat", "align_concat_to", "Align to Large"),
        ("Resize", "align_resize_to", "Align to Input"),
        ("AveragePool", "align_avgpooling_to", "Align to Input"),
    ],
)
def test_3c_sets_the_key_of_its_op_and_keeps_the_others(op_type: Any, key: Any, value: Any) -> None:
    base = trained(fusion_alignment={"force_alignment_overlap": True})
    changed = LEVERS["3c"].change(context(base, hot_ops=(hot(op_type, 0.25),)))
    assert known(changed.fusion_alignment).model_dump(exclude_none=True) == {
        "force_alignment_overlap": True,
        key: value,
    }
    assert LEVERS["3c"].marks(changed)


@pytest.mark.parametrize(
    ("snrs", "ops", "chosen"),
    [
        ((0.9, 0.5, 0.1, 0.1, 0.1), 40, ["c0", "c1"]),
        ((0.3, 0.29, 0.28, 0.27, 0.26), 40, ["c0"]),  # none stands out: one all the same
        ((0.9, 0.5, 0.1, 0.1, 0.1), 12, ["c0"]),  # 10 % of 12 ops
        ((0.9, 0.5, 0.1, 0.1, 0.1), 5, ["c0"]),  # 10 % of 5 is none, but one is the least
        ((0.9, 0.8, 0.1, 0.1, None), 40, ["c0"]),  # a null is no candidate
        ((0.9,), 40, ["c0"]),
    ],
)
def test_3e_takes_the_outliers(snrs: Any, ops: Any, chosen: Any) -> None:
    layers = tuple(LayerError(f"c{i}", snr) for i, snr in enumerate(snrs))
    given = context(layerwise=layers, ops=evidence().ops[:ops])
    changed = LEVERS["3e"].change(given)
    assert [(entry.op, entry.bits) for entry in known(changed.dispatching_table)] == [
        (op, 16) for op in chosen
    ]
    assert chosen[0] in LEVERS["3e"].applies(given).reason


def test_3e_takes_three_at_most() -> None:
    limits = DEFAULT_THRESHOLDS.__class__(int16_median_factor=0.5)
    given = state_of(swept(*SWEEP), thresholds=limits)
    assert len(known(LEVERS["3e"].change(given).dispatching_table)) == 3


@pytest.mark.parametrize("kind", ["Resize", "Gelu"])
def test_3e_leaves_out_what_has_8_bits_alone(kind: str) -> None:
    layers = (LayerError("up", 0.9), LayerError("conv0", 0.8), LayerError("c1", 0.1))
    given = context(
        layerwise=(*layers, LayerError("c2", 0.1)), ops=(GraphOp("up", kind), *evidence().ops)
    )
    table = known(LEVERS["3e"].change(given).dispatching_table)
    assert [entry.op for entry in table] == ["conv0"]
    alone = context(layerwise=layers[:1], ops=(GraphOp("up", kind),))
    assert not LEVERS["3e"].applies(alone).applies


def test_3e_without_layerwise_errors_is_skipped() -> None:
    assert not LEVERS["3e"].applies(context(layerwise=())).applies


def test_3e_keeps_other_entries_of_the_table() -> None:
    base = trained(dispatching_table=[{"op": "x", "bits": 8}, {"op": "conv0", "bits": 8}])
    table = known(LEVERS["3e"].change(context(base)).dispatching_table)
    assert {entry.op: entry.bits for entry in table} == {"x": 8, "conv0": 16}


def test_3f_takes_the_worst_layer_that_qualifies() -> None:
    stats = (
        weight("conv4", 30.0),
        weight("conv1", 12.0),
        weight("conv0", 9.0),
        weight("conv2", None),
    )
    section = known(LEVERS["3f"].change(context(stats=stats)).weight_split)
    assert section.interested_layers == ["conv1"]
    assert (section.value_threshold, section.method) == (1.5, "balance")


def test_3f_looks_at_the_weight_not_at_the_bias() -> None:
    import dataclasses

    bias = dataclasses.replace(weight("conv0", 50.0), variable="b0")
    verdict = LEVERS["3f"].applies(context(stats=(weight("conv0", 1.0), bias)))
    assert not verdict.applies
    assert "kurtosis > 10" in verdict.reason


@pytest.mark.parametrize("name", ["3b", "3d", "3e", "3f", "3g", "3c"])
def test_levers_survive_empty_evidence(name: Any) -> None:
    given = state_of(swept(*SWEEP), Evidence())
    verdict = LEVERS[name].applies(given)
    assert verdict.applies is (name in ("3b", "3d", "3g"))
    assert verdict.reason


def test_orders_hold_the_same_levers_and_3a_3_in_none() -> None:
    orders = [
        [lever.id for lever in linear_order(name)] for name in (Priority.BALANCED, Priority.SPEED)
    ]
    assert sorted(orders[0]) == sorted(orders[1])
    assert "3a-3" not in orders[0]
    costly = [lever.id for lever in linear_order(Priority.SPEED) if lever.cost == "+"]
    assert orders[1][-2:] == costly == ["3e", "3f"]


def test_a_channel_split_names_the_pair_and_half_of_its_lower_peak() -> None:
    given = context(**WHERE_IT_APPLIES["3h"])
    section = LEVERS["3h"].change(given).channel_split
    assert section is not None
    assert section.interested_layers == ["conv1", "conv2"]
    assert section.value_threshold == 0.4
    assert runtime_cost(LEVERS["3h"].change(given)).slower_ops == 2


def test_a_channel_split_needs_a_layer_that_alone_reads_the_channels() -> None:
    stats = WHERE_IT_APPLIES["3h"]["stats"]
    assert not LEVERS["3h"].applies(context(stats=stats, ops=())).applies
    assert "3h" not in [lever.id for lever in linear_order(Priority.BALANCED)]


def graph(*ops: tuple[str, str, tuple[str, ...], str]) -> tuple[GraphOp, ...]:
    return tuple(GraphOp(name, kind, inputs, (output,)) for name, kind, inputs, output in ops)


CHAIN = (
    ("conv0", "Conv", ("x", "w0", "b0"), "a"),
    ("relu", "Relu", ("a",), "b"),
    ("conv1", "Conv", ("b", "w1", "b1"), "y"),
)


def limits_of(op: str, largest: float, kurtosis: float = 0.0) -> VariableStats:
    return replace(weight(op, kurtosis), float_max=largest, float_min=-largest)


def judged(lever: str, ops: Any, *stats: VariableStats) -> Judgement:
    return LEVERS[lever].applies(context(ops=graph(*ops), stats=stats))


def test_equalization_is_skipped_where_no_layer_follows_another() -> None:
    assert judged("3d", CHAIN).applies
    clipped = (CHAIN[0], ("clip", "Clip", ("a",), "b"), CHAIN[2])
    verdict = judged("3d", clipped)
    assert not verdict.applies
    assert "no layer with weights follows another one" in verdict.reason


def test_equalization_is_skipped_where_all_weights_are_small() -> None:
    small = judged("3d", CHAIN, limits_of("conv0", 0.2), limits_of("conv1", 0.2))
    assert not small.applies
    assert "0.2 and 0.2" in small.reason
    assert judged("3d", CHAIN, limits_of("conv0", 0.2), limits_of("conv1", 0.4)).applies
    assert judged("3d", CHAIN, limits_of("conv0", 0.2)).applies  # of the other nothing is known


def test_bias_correction_is_skipped_where_no_op_has_a_bias() -> None:
    assert judged("3b", CHAIN).applies
    without = (("conv0", "Conv", ("x", "w0"), "a"), CHAIN[1], ("conv1", "Conv", ("b", "w1"), "y"))
    assert not judged("3b", without).applies


def test_a_split_is_skipped_where_no_weight_is_large_enough() -> None:
    large = limits_of("conv0", 2.0, kurtosis=40.0)
    assert judged("3f", CHAIN, large).applies
    verdict = judged("3f", CHAIN, limits_of("conv0", 0.9, kurtosis=40.0))
    assert not verdict.applies
    assert "smaller ones are not split" in verdict.reason


def test_16_bits_are_not_given_to_ops_that_have_them() -> None:
    narrow = context(layerwise=(LayerError("conv0", 0.3),))
    assert LEVERS["3e"].applies(narrow).applies
    wide = replace(narrow, options=replace(narrow.options, num_of_bits=16))
    assert not LEVERS["3e"].applies(wide).applies
