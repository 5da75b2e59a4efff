"""Costs of the exported files in a history: ties, budgets, the front, and broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.core import Direction, MetricUnit
from espdl_quantize.record import Budgets, Cost, History, LayerPrice, Measurement, read_history
from espdl_quantize.record.cost import Flash, Latency, Ram, read_cost
from espdl_quantize.search import SearchOptions, SearchState, Stop, decide
from tests.search.made_runs import (
    SWEEP,
    evidence,
    history,
    known,
    make,
    run,
    swept,
    trained,
    write_cost,
    write_history,
    write_run,
)

WIDE = make(dispatching_table=[{"op": "conv0", "bits": 16}])
RATE: dict[str, Any] = {"sample_count": 400, "metric_unit": "fraction"}


def cost(ms: float | None, *, ram: int = 100, flash: int = 1000, **fields: Any) -> Cost:
    """A cost in milliseconds and KiB."""
    latency = Latency(milliseconds=ms, low=ms and ms * 0.8, high=ms and ms * 1.25)
    return Cost(
        chip="esp32p4",
        time=ms,
        latency=latency,
        ram=Ram(arena=ram << 10),
        flash=Flash(file=flash << 10),
        **fields,
    )


def of(*rows: tuple[float, Cost | None], **fields: Any) -> History:
    return history(
        *(
            run(number, value, make(calib_algorithm="kl"), cost=price, **fields)
            for number, (value, price) in enumerate(rows)
        )
    )


def under(past: History, **budgets: float) -> History:
    return SearchState.of(past, {}, SearchOptions(budgets=Budgets(**budgets))).history


def best(past: History) -> int:
    return known(past.best).id


def test_a_tie_within_noise_goes_to_fewer_milliseconds() -> None:
    past = of((0.80, cost(20.0)), (0.81, cost(30.0)), (0.60, cost(10.0)), **RATE)
    assert best(past) == 0
    # One percent is no difference in time: the score decides.
    assert best(of((0.80, cost(29.8)), (0.81, cost(30.0)), **RATE)) == 1
    # Where one is not known, ops are counted, as ever.
    assert best(of((0.80, cost(20.0)), (0.81, None), **RATE)) == 1


def test_without_noise_the_higher_score_is_best_whatever_it_takes() -> None:
    assert best(of((0.80, cost(20.0)), (0.81, cost(30.0)))) == 1


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        ({}, 2),
        ({"max_latency_ms": 30.0}, 2),
        ({"max_latency_ms": 29.0}, 1),
        ({"max_latency_ms": 15.0}, 0),
        ({"max_ram_kb": 150.0}, 0),
        ({"max_ram_kb": 250.0}, 1),
        ({"max_flash_kb": 1500.0}, 1),
        ({"max_latency_ms": 5.0}, 0),
        ({"max_latency_ms": 25.0, "max_ram_kb": 10.0}, 0),
    ],
)
def test_best_is_the_most_accurate_that_keeps_the_budgets(
    budgets: dict[str, float], expected: int
) -> None:
    past = of(
        (0.5, cost(10.0, ram=100)),
        (0.7, cost(20.0, ram=200)),
        (0.9, cost(30.0, ram=300, flash=2000)),
    )
    bounded = under(past, **budgets)
    assert best(bounded) == expected
    kept = budgets.get("max_latency_ms") != 5.0 and budgets.get("max_ram_kb") != 10.0
    assert bounded.keeps_budgets(known(bounded.best)) is kept


def test_the_nearest_reaches_no_target() -> None:
    past = of((0.5, cost(10.0)), (0.9, cost(30.0)))
    for limit, ends in ((30.0, True), (5.0, False)):
        options = SearchOptions(target=0.4, budgets=Budgets(max_latency_ms=limit))
        assert isinstance(decide(SearchState.of(past, {}, options)), Stop) is ends


def test_files_that_differ_by_a_few_bytes_are_as_near() -> None:
    past = of(
        (0.5, cost(10.0, flash=2000)), (0.9, cost(10.0, flash=2001)), (0.95, cost(9.0, flash=2100))
    )
    assert best(under(past, max_flash_kb=1000.0)) == 1
    # What keeps them has to keep them.
    assert best(under(past, max_flash_kb=2000.0)) == 0


def test_what_nobody_knows_binds_nothing() -> None:
    past = of((0.5, cost(None)), (0.9, cost(None, ram=300)))
    bounded = under(past, max_latency_ms=1.0, max_ram_kb=200.0)
    assert bounded.unknown_budgets == ("max_latency_ms",)
    assert best(bounded) == 0
    # But what one iteration does not know while others do, is not known to be kept.
    past = of((0.5, cost(10.0)), (0.9, None))
    assert best(under(past, max_latency_ms=20.0)) == 0
    assert best(under(of((0.5, None), (0.9, None)), max_latency_ms=20.0)) == 1


def test_a_measured_time_is_surer_than_a_predicted_one() -> None:
    rows = [run(0, 0.5, cost=cost(10.0)), run(1, 0.9, WIDE, cost=cost(18.0))]
    slow = Measurement(chip="esp32p4", runs_us=(30_000.0,), loaded=True)
    measured = history(rows[0], run(1, 0.9, WIDE, cost=cost(18.0), device=slow))
    assert best(under(history(*rows), max_latency_ms=20.0)) == 1
    assert best(under(measured, max_latency_ms=20.0)) == 0


@pytest.mark.parametrize(
    ("direction", "unit", "reference", "drop", "target"),
    [
        (Direction.MAX, MetricUnit.PERCENT, 71.0, 1.0, 70.0),
        (Direction.MAX, MetricUnit.FRACTION, 0.71, 1.0, 0.70),
        (Direction.MAX, None, 0.71, 1.0, 0.70),
        (Direction.MIN, None, 12.0, 0.5, 12.5),
        (Direction.MAX, MetricUnit.PERCENT, 0.9, 0.5, 0.4),
        (Direction.MAX, None, None, 0.5, None),
        (Direction.MAX, None, 71.0, None, None),
        (Direction.MAX, None, 71.0, 0.0, 71.0),
    ],
)
def test_a_drop_is_a_target_below_the_float_model(
    direction: Direction,
    unit: MetricUnit | None,
    reference: float | None,
    drop: float | None,
    target: float | None,
) -> None:
    found = Budgets(max_drop=drop).target(reference, direction, unit)
    assert found == (None if target is None else pytest.approx(target))


def test_a_drop_ends_the_search_and_follows_the_contract() -> None:
    past = of((0.80, None), float_value=0.82, budgets=Budgets(max_drop=3.0))
    assert past.target == pytest.approx(0.79)
    assert isinstance(decide(SearchState.of(past)), Stop)
    assert not isinstance(
        decide(SearchState.of(past, {}, SearchOptions(budgets=Budgets(max_drop=1.0)))), Stop
    )
    # A contract that states a drop now stated a target before.
    edited = under(of((0.80, None), float_value=0.82, target=0.99), max_drop=3.0)
    assert edited.target == pytest.approx(0.79)


def test_whether_it_is_slower_is_read_from_the_file() -> None:
    plain = tuple(LayerPrice(name=f"conv{n}", width="S8", time=5.0) for n in range(2))
    wide = (LayerPrice(name="conv0", width="S16", time=9.0), plain[1])
    past = history(
        run(0, 0.5, cost=cost(10.0, layers=plain)),
        # The setting asks for none, such as one that sets widths through extra.
        run(1, 0.6, make(calib_algorithm="mse"), cost=cost(14.0, layers=wide)),
        # The setting asks for one that did not survive.
        run(2, 0.6, WIDE, cost=cost(10.0, layers=plain)),
    )
    assert [str(past.prices.of(row)) for row in past.iterations] == [
        "No",
        "Yes (int16 on 1 op: conv0; +40.0% time)",
        "No",
    ]
    assert str(history(run(0, 0.5), run(1, 0.6, WIDE)).prices.of(run(1, 0.6, WIDE))).startswith(
        "Yes (int16 on 1 op: conv0"
    )


rows = st.lists(
    st.tuples(
        st.floats(0, 1, allow_nan=False),
        st.none() | st.floats(1e-3, 1e3).map(cost),
    ),
    max_size=8,
)


@given(rows, st.none() | st.floats(1e-3, 1e3))
def test_nothing_on_the_front_is_beaten(
    made: list[tuple[float, Cost | None]], limit: float | None
) -> None:
    past = of(*made)
    if limit is not None:
        past = under(past, max_latency_ms=limit)
    front = past.front
    times = [known(past.prices.time(row)) for row in front]
    assert times == sorted(times)
    assert [row.value for row in front] == sorted(known(row.value) for row in front)
    allowed = [row for row in past.scored if past.prices.time(row) is not None]
    if limit is not None and any(past.keeps_budgets(row) for row in allowed):
        allowed = [row for row in allowed if past.keeps_budgets(row)]
    if limit is None:
        for row in allowed:
            assert any(
                known(past.prices.time(other)) <= 1.01 * known(past.prices.time(row))
                and past.height(other) >= past.height(row)
                for other in front
            )
    assert {row.id for row in front} <= {row.id for row in allowed}
    if past.best is not None and past.prices.time(past.best) is not None and limit is not None:
        assert past.best.id in {row.id for row in front}


def test_the_cheapest_that_cannot_be_told_from_best() -> None:
    # 0.78 is not within noise of 0.86, but of 0.81, which is as good as 0.86 and quicker.
    past = of((0.78, cost(10.0)), (0.81, cost(20.0)), (0.86, cost(29.0)), **RATE)
    assert best(past) == 1
    assert known(past.cheapest_near_best).id == 0
    assert of((0.78, cost(10.0)), (0.80, cost(29.0))).cheapest_near_best is None


def test_a_folder_with_costs_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run(0, 0.5))
    write_cost(folder, 12.5, wide=("conv1",))
    (row,) = read_history(tmp_path).iterations
    price = known(row.cost)
    assert (price.ms, price.ram_bytes, price.flash_bytes) == (12.5, 64 << 10, 200 << 10)
    assert price.wide_ops == ("conv1",)
    assert price.with_wide({"conv1"}) == pytest.approx(12.5)
    assert price.with_wide({"conv1", "conv0"}) == pytest.approx(12.5 - 3.125 + 6.25)
    assert price.with_wide({"conv0"}) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"time": "fast", "layers": {"a": 1}, "latency": 7, "ram": [], "flash": null}',
        '{"time": -3, "latency": {"milliseconds": -1}}',
        '{"layers": [3, {"name": 4}, null], "chip": 5}',
        "9" * 5000,
    ],
)
def test_a_broken_file_of_costs_costs_no_history(tmp_path: Path, content: str) -> None:
    folder = write_run(tmp_path, run(0, 0.5))
    (folder / "chip_cost.json").write_text(content)
    read, problem = read_cost(folder)
    assert read is None or read.ms is None
    assert (read is None) == (problem is not None)
    past = read_history(tmp_path)
    assert best(under(past, max_latency_ms=5.0)) == 0
    assert past.front == ()


def test_huge_numbers_do_not_overflow(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run(0, 0.5))
    write_cost(folder, 1.0)
    content = json.loads((folder / "chip_cost.json").read_text())
    content["ram"]["arena"] = 10**400
    content["time"] = 10**300
    (folder / "chip_cost.json").write_text(json.dumps(content))
    past = under(read_history(tmp_path), max_ram_kb=5.0, max_latency_ms=0.5)
    assert past.best is not None
    assert past.front == ()


def test_the_search_decides_as_before_without_budgets(tmp_path: Path) -> None:
    """Costs alone, without noise, change no decision: they break ties."""
    rest = ((0.72, trained(bias_correct={"enabled": True})), (0.71, WIDE))
    past = swept(*SWEEP, rest=rest)
    write_history(tmp_path, past, evidence())
    before = decide(SearchState.of(read_history(tmp_path)))
    for row in past.iterations:
        write_cost(tmp_path / f"iter_{row.id}", 10.0 + row.id)
    assert decide(SearchState.of(read_history(tmp_path))) == before
