"""Levers 3i and 3j: which groups of ops get 16 bits, and which get 8 again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from espdl_quantize.record import Evidence, GraphOp, OpGroup, Widths
from espdl_quantize.record.cost import Budgets, Cost, Latency, LayerPrice
from espdl_quantize.search import LEVERS, SearchState, lint_setting
from espdl_quantize.search.levers.groups import choose_groups
from espdl_quantize.setting import Setting, int16_ops
from tests.search.made_runs import SWEEP, evidence, history, make, state_of, swept

NAMES = ("a", "b", "c", "d")
OPS = tuple(
    GraphOp(name, "Conv", (f"in {name}",), (f"in {after}",))
    for name, after in zip(NAMES, (*NAMES[1:], "end"), strict=True)
)
"""A chain; what an op reads is named after it."""


def priced(time: float = 10.0, **ops: float) -> Cost:
    layers = tuple(
        LayerPrice(name=name, op_type="Conv", width="S8", time=1.0, time_at_16_bits=1.0 + extra)
        for name, extra in {**dict.fromkeys(NAMES, 1.0), **ops}.items()
    )
    return Cost(chip="esp32s3", time=time, latency=Latency(milliseconds=time), layers=layers)


def group(names: str, noise: float) -> OpGroup:
    return OpGroup(tuple(names), noise)


def given(
    *groups: OpGroup,
    base: Setting | None = None,
    cost: Cost | None = None,
    conversions: float = 0.0,
    demotions: tuple[OpGroup, ...] = (),
    **options: Any,
) -> SearchState:
    """Best is iter_2; the noise of its outputs is 1."""
    times = {f"in {name}": conversions for name in NAMES}
    widths = Widths(1.0, 16, True, groups, demotions, times)
    past = swept(*SWEEP)
    rows = [replace(item, cost=cost or priced()) for item in past.iterations]
    if base is not None:
        rows = [replace(item, setting=base) if item.id == 2 else item for item in rows]
    found: Evidence = evidence(ops=OPS, widths=widths)
    return state_of(history(*rows), found, **options)


def chosen(state: SearchState) -> list[str]:
    return ["".join(each.ops) for each in choose_groups(state)]


def budget(most: float) -> dict[str, Any]:
    return {"budgets": Budgets(max_latency_ms=most)}


def test_what_wins_most_per_time_comes_first() -> None:
    cheap = priced(a=0.1, b=1.0)
    assert chosen(given(group("a", 0.7), group("b", 0.6), cost=cheap, **budget(11.5))) == ["a", "b"]
    assert chosen(given(group("a", 0.7), group("b", 0.6), cost=cheap, **budget(10.5))) == ["a"]
    assert chosen(given(group("a", 0.7), group("b", 0.6), cost=cheap, **budget(10.05))) == []


def test_greed_does_not_miss_the_larger_group() -> None:
    light = group("a", 0.89)
    heavy = group("b", 0.1)
    state = given(light, heavy, cost=priced(a=0.1, b=2.0), **budget(12.0))
    assert chosen(state) == ["b"]


def test_what_groups_share_is_paid_and_won_once() -> None:
    state = given(group("ab", 0.6), group("bc", 0.6), **budget(13.0))
    first, second = choose_groups(state)
    assert {*first.ops, *second.ops} == {"a", "b", "c"}
    assert (first.time, second.time) == pytest.approx((2.0, 1.0))
    assert second.win == pytest.approx(0.2)


def test_conversions_count_and_neighbours_save_them() -> None:
    alone, both = group("b", 0.5), group("bc", 0.4)
    dear: dict[str, Any] = {"conversions": 5.0, "cost": priced(b=0.1, c=0.1)}
    assert chosen(given(alone, **dear, **budget(12.0))) == []
    # With the whole chain nothing is converted.
    whole = group("abcd", 0.0)
    assert chosen(given(alone, both, whole, **dear, **budget(13.0))) == ["abcd"]


def test_an_op_that_16_bits_make_quicker_pays_for_its_neighbour() -> None:
    """As the exported file is priced: 16 bits fill the chip's vectors with fewer channels."""
    state = given(group("ab", 0.1), cost=priced(a=-0.6, b=1.0), **budget(10.5))
    (whole,) = choose_groups(state)
    assert whole.time == pytest.approx(0.4)
    assert "+0.4 ms of 10" in LEVERS["3i"].applies(state).reason
    assert chosen(given(group("ab", 0.1), cost=priced(a=-0.6, b=1.0), **budget(10.3))) == []


def test_without_a_limit_a_share_of_the_time_may_be_spent() -> None:
    state = given(group("a", 0.5), group("bcd", 0.2))
    assert chosen(state) == ["a"]
    limits = replace(state.options.thresholds, group_time_share=0.5)
    assert "".join(sorted("".join(chosen(given(group("bcd", 0.2), thresholds=limits))))) == "bcd"


def test_what_wins_little_or_harms_is_no_group() -> None:
    assert chosen(given(group("a", 0.96), group("b", 1.2))) == []
    judgement = LEVERS["3i"].applies(given(group("a", 0.96)))
    assert not judgement.applies
    assert "25% more time" in judgement.reason


def test_without_a_cost_or_a_measurement_there_is_no_lever() -> None:
    nothing = LEVERS["3i"].applies(given(group("a", 0.1), cost=Cost()))
    assert "not known" in nothing.reason
    assert not LEVERS["3i"].applies(given()).applies
    assert not LEVERS["3j"].applies(given()).applies


def test_the_setting_holds_widths_calibration_and_tables() -> None:
    state = given(group("ab", 0.2), base=make(dispatching_table=[{"op": "a", "bits": 8}]))
    changed = LEVERS["3i"].change(state)
    assert set(int16_ops(changed)) == {"a", "b"}
    assert changed.calib_algorithm_per_layer == {"a": "minmax", "b": "minmax"}
    assert changed.int16_tables
    assert LEVERS["3i"].marks(changed)
    assert not LEVERS["3i"].marks(state.base)


def test_the_rationale_names_group_noise_and_time() -> None:
    state = given(group("abc", 0.25), **budget(13.0))
    reason = LEVERS["3i"].applies(state).reason
    for part in ("a to c (3 ops): 75% of the noise for +3 ms of 10", "16 held-out samples"):
        assert part in reason
    assert "within max_latency_ms 13" in reason


def test_idle_ops_get_8_bits_again() -> None:
    base = make(
        dispatching_table=[{"op": name, "bits": 16} for name in "abc"],
        calib_algorithm_per_layer={"a": "minmax", "b": "mse", "c": "minmax"},
        int16_tables=True,
    )
    demotions = (group("a", 1.01), group("b", 0.9), group("c", 1.5), group("abc", 3.0))
    state = given(base=base, demotions=demotions)
    judgement = LEVERS["3j"].applies(state)
    assert judgement.applies
    assert "0.01 from 1" in judgement.reason
    changed = LEVERS["3j"].change(state)
    assert int16_ops(changed) == ("c",)
    assert changed.calib_algorithm_per_layer == {"b": "mse", "c": "minmax"}
    assert changed.int16_tables
    every = given(base=base, demotions=(group("abc", 1.0),))
    assert LEVERS["3j"].change(every).int16_tables is None


def test_ops_of_a_wide_model_get_8_bits_by_name() -> None:
    state = given(base=make(width=16), demotions=(group("a", 1.0),))
    changed = LEVERS["3j"].change(state)
    assert [(entry.op, entry.bits) for entry in changed.dispatching_table or ()] == [("a", 8)]


@pytest.mark.parametrize("name", ["3i", "3j"])
def test_the_linear_order_does_not_have_them(name: str) -> None:
    from espdl_quantize.core import Priority
    from espdl_quantize.search import linear_order

    for priority in Priority:
        assert name not in [lever.id for lever in linear_order(priority)]


def test_a_promotion_is_one_change() -> None:
    state = given(group("ab", 0.2))
    changed = LEVERS["3i"].change(state)
    rules = [violation.rule for violation in lint_setting(changed, state)]
    assert "one-change" not in rules
