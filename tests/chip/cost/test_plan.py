"""The memory plan: ESP-DL's own figures, its rules one by one, and what no plan may do."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.chip.cost import MemoryPlan, UnplannableModelError, plan_memory
from tests.chip.cost.graphs import PUBLISHED, graph, published

ARENAS = {
    "espdet_pico_224_224_cat": 351_232,
    "espdet_pico_416_416_cat": 1_211_392,
    "human_face_detect_mnp_s8_v1": 49_232,
    "human_face_detect_msr_s8_v1": 202_400,
    "mobilenetv2_0_5_128_128_gesture": 278_528,
    "pedestrian_detect_pico_s8_v1": 551_936,
    "person_reid_feat_osn_s8_v1": 184_320,
    "pp_ocr_v6_det_s8": 12_965_408,
    "streaming_model": 3_120,
}
"""Bytes. ESP-DL's planner gives 343, 1,183, 197 and 12,661 KiB for the ESPDets, the face detector
msr and the text detector."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_arenas_of_published_models(name: str) -> None:
    assert plan_memory(published(name)).arena == ARENAS[name]


def peak(plan: MemoryPlan) -> set[str]:
    return {place.name for place in plan.at(plan.peak_layer)}


def test_the_layer_that_makes_the_peak() -> None:
    chain = graph(
        [("Conv", ["in", "w"], ["a"]), ("Conv", ["a", "w"], ["b"]), ("Conv", ["b", "w"], ["out"])],
        {"in": 16, "a": 160, "b": 320, "out": 16},
        ["in"],
        ["out"],
    )
    plan = plan_memory(chain)
    assert (plan.peak_layer, peak(plan)) == (1, {"a", "b"})
    assert plan.live == (176, 480, 336)
    # The input's 16 bytes are free at the bottom, too small for b.
    assert plan.arena == 496


@pytest.mark.parametrize(
    ("op_type", "arena"),
    [("Add", 64), ("Relu", 64), ("Reshape", 64), ("Mul", 128), ("Conv", 128), ("Softmax", 128)],
)
def test_what_works_in_place(op_type: str, arena: int) -> None:
    model = graph([(op_type, ["in", "w"], ["out"])], {"in": 64, "out": 64}, ["in"], ["out"])
    assert plan_memory(model).arena == arena


def test_an_input_that_is_read_again_is_not_overwritten() -> None:
    ops = [("Relu", ["in"], ["a"]), ("Concat", ["in", "a"], ["out"])]
    plan = plan_memory(graph(ops, {"in": 64, "a": 64, "out": 128}, ["in"], ["out"]))
    assert {place.shared_with for place in plan.placements} == {None}
    assert plan.arena == 256


def test_an_output_of_the_model_is_not_overwritten_and_never_freed() -> None:
    ops = [("Conv", ["in", "w"], ["kept"]), ("Relu", ["kept"], ["a"]), ("Conv", ["a", "w"], ["b"])]
    sizes = {"in": 64, "kept": 64, "a": 64, "b": 64}
    places = {
        place.name: place
        for place in plan_memory(graph(ops, sizes, ["in"], ["kept", "b"])).placements
    }
    assert places["kept"].last is None
    assert places["a"].shared_with is None


def test_nothing_is_overwritten_that_lives_on_under_another_shape() -> None:
    ops = [
        ("Reshape", ["in"], ["view"]),
        ("Relu", ["in"], ["a"]),
        ("Concat", ["view", "a"], ["out"]),
    ]
    sizes = {"in": 64, "view": 64, "a": 64, "out": 128}
    places = {p.name: p for p in plan_memory(graph(ops, sizes, ["in"], ["out"])).placements}
    assert places["view"].shared_with == "in"
    assert places["a"].shared_with is None
    assert places["a"].offset != places["in"].offset


def test_internal_memory_is_filled_first() -> None:
    ops = [("Conv", ["in", "w"], ["a"]), ("Conv", ["a", "w"], ["out"])]
    model = graph(ops, {"in": 4096, "a": 64, "out": 64}, ["in"], ["out"])
    plan = plan_memory(model, internal_limit=256)
    assert {place.name for place in plan.placements if place.internal} == {"a", "out"}
    assert (plan.arena, plan.internal) == (4096, 128)


def test_what_cannot_be_planned_is_named() -> None:
    with pytest.raises(UnplannableModelError, match="'b', which nothing has written"):
        plan_memory(graph([("Add", ["in", "b"], ["c"])], {"in": 1, "b": 1, "c": 1}, ["in"], ["c"]))
    with pytest.raises(UnplannableModelError, match="no shape of the activation 'out'"):
        plan_memory(graph([("Relu", ["in"], ["out"])], {"in": 1}, ["in"], ["out"]))
    twice = [("Relu", ["in"], ["a"]), ("Relu", ["in"], ["a"])]
    with pytest.raises(UnplannableModelError, match="written twice"):
        plan_memory(graph(twice, {"in": 1, "a": 1}, ["in"], ["a"]))


KINDS = ("Conv", "Add", "Relu", "Mul", "Reshape", "Concat")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99), st.integers(1, 9)
        ),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from([0, 64, 160]),
)
def test_no_two_activations_overlap(drawn: list[tuple[str, int, int, int]], limit: int) -> None:
    names, sizes = ["t0"], {"t0": 48}
    ops: list[tuple[str, list[str], list[str]]] = []
    for number, (kind, first, second, size) in enumerate(drawn, 1):
        left, right = names[first % len(names)], names[second % len(names)]
        name = f"t{number}"
        sizes[name] = sizes[left] if kind in ("Relu", "Reshape") else 16 * size + size % 3
        ops.append((kind, [left, right] if kind in ("Add", "Mul", "Concat") else [left], [name]))
        names.append(name)
    plan = plan_memory(graph(ops, sizes, ["t0"], [names[-1]]), internal_limit=limit)
    own = [place for place in plan.placements if place.shared_with is None]
    for place in own:
        assert place.offset % 16 == 0
    for step in range(len(ops)):
        held = sorted(plan.at(step), key=lambda place: (place.internal, place.offset))
        for below, above in pairwise(held):
            if below.internal == above.internal:
                assert below.offset + below.size <= above.offset
    assert plan.total >= max(plan.live)
