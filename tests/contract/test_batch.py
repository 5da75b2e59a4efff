"""A batch is the same tensors, in whichever form it comes and goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from espdl_quantize.contract import Batch, first_samples, spread_samples
from espdl_quantize.ppq import batch_digests, parse_onnx, run_graph
from tests.networks import export_network, network

FORMS = st.sampled_from(["tensor", "list", "tuple", "dict"])


def make_tensors(count: int, samples: int) -> list[Tensor]:
    """Make tensors of other shapes and layouts: with gaps, transposed, and as they come."""
    dense = [
        torch.arange(samples * 6 * (place + 2.0)).reshape(samples, 6, place + 2)
        for place in range(count)
    ]
    changes = [
        lambda tensor: tensor,
        lambda tensor: tensor[:, ::2],
        lambda tensor: tensor.transpose(1, 2),
    ]
    return [changes[place % 3](tensor) for place, tensor in enumerate(dense)]


@st.composite
def native_forms(draw: st.DrawFn) -> Any:
    """Draw what a loader may yield."""
    form = draw(FORMS)
    count = 1 if form == "tensor" else draw(st.integers(1, 4))
    tensors = make_tensors(count, draw(st.integers(1, 5)))
    if form == "dict":
        names = draw(st.permutations([f"input{place}" for place in range(count)]))
        return dict(zip(names, tensors, strict=True))
    return tensors[0] if form == "tensor" else tensors if form == "list" else tuple(tensors)


def tensors_in(native: Any) -> list[Tensor]:
    if isinstance(native, dict):
        return list(native.values())
    return list(native) if isinstance(native, (list, tuple)) else [native]


@given(native_forms())
def test_a_form_comes_back_with_the_very_tensors(native: Any) -> None:
    batch = Batch.of(native)
    again = batch.as_esp_ppq()
    assert [id(tensor) for tensor in batch.tensors] == [id(tensor) for tensor in tensors_in(native)]
    assert [id(tensor) for tensor in tensors_in(again)] == [id(tensor) for tensor in batch.tensors]
    assert isinstance(again, dict) == isinstance(native, dict)
    if isinstance(native, dict):
        assert list(again) == list(native)
    else:
        assert isinstance(again, Tensor) == (len(batch.tensors) == 1)
    assert Batch.of(batch) is batch
    assert batch.nbytes == sum(tensor.numel() * tensor.element_size() for tensor in batch.tensors)


@given(native_forms(), st.integers(1, 6))
def test_first_samples_are_those_of_each_tensor(native: Any, count: int) -> None:
    batch = Batch.of(native)
    first = batch.first(count)
    assert first.names == batch.names
    assert first.sample_count == min(count, batch.sample_count)
    for part, whole in zip(first.tensors, batch.tensors, strict=True):
        assert torch.equal(part, whole[:count])
        assert part.stride() == whole.stride()
        assert part.data_ptr() == whole.data_ptr()


@given(native_forms())
def test_samples_joined_are_the_batch(native: Any) -> None:
    batch = Batch.of(native)
    samples = list(batch.samples())
    assert [sample.sample_count for sample in samples] == [1] * batch.sample_count
    for place, tensor in enumerate(batch.tensors):
        assert torch.equal(torch.cat([sample.tensors[place] for sample in samples]), tensor)
    assert {sample.names for sample in samples} == {batch.names}


@given(native_forms())
def test_map_changes_each_tensor_once(native: Any) -> None:
    batch = Batch.of(native)
    seen: list[Tensor] = []

    def doubled(tensor: Tensor) -> Tensor:
        seen.append(tensor)
        return tensor * 2

    mapped = batch.map(doubled)
    assert [id(tensor) for tensor in seen] == [id(tensor) for tensor in batch.tensors]
    for new, old in zip(mapped.tensors, batch.tensors, strict=True):
        assert torch.equal(new, old * 2)
    assert mapped.names == batch.names


@given(st.permutations(["a", "b", "c"]))
def test_names_come_in_the_order_of_the_graph(names: list[str]) -> None:
    tensors = dict(zip("abc", make_tensors(3, 2), strict=True))
    batch = Batch.of({name: tensors[name] for name in names})
    assert list(batch.by_name(["a", "b", "c"])) == ["a", "b", "c"]
    assert all(tensor is tensors[name] for name, tensor in batch.by_name(["c", "a", "b"]).items())


def test_without_names_the_order_counts() -> None:
    tensors = make_tensors(2, 3)
    by_name = Batch.of(tensors).by_name(["image", "row"])
    assert by_name["image"] is tensors[0]
    assert by_name["row"] is tensors[1]
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Batch.of(tensors).by_name(["image"])


def test_a_name_that_the_graph_lacks_comes_last() -> None:
    image, other = make_tensors(2, 3)
    assert list(Batch.of({"other": other, "image": image}).by_name(["image"])) == ["image", "other"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "a str, expected"),
        ([[torch.zeros(1)]], "a list of list, expected"),
        ({"a": [torch.zeros(1)]}, "a dict of list, expected"),
        ((torch.zeros(1), 3, 3, 3), r"a tuple of Tensor, int, int, \.\.\., expected"),
        (None, "a NoneType, expected"),
    ],
)
def test_nested_and_foreign_values_are_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Batch.of(value)


@pytest.mark.parametrize("value", [[], (), {}])
def test_nothing_is_no_batch(value: Any) -> None:
    with pytest.raises(ValueError, match="no tensor"):
        Batch.of(value)


def test_as_many_names_as_tensors() -> None:
    with pytest.raises(ValueError, match="1 tensors and 2 names"):
        Batch((torch.zeros(1),), ("a", "b"))


def test_first_samples_of_several_batches() -> None:
    batches = [Batch.of(part) for part in torch.split(torch.arange(5.0).reshape(5, 1), 2)]
    assert [float(sample.tensors[0]) for sample in first_samples(batches, 3)] == [0.0, 1.0, 2.0]
    assert len(first_samples(batches, 9)) == 5
    assert first_samples(batches, 0) == []


@given(st.permutations(["image", "row"]))
def test_a_sample_has_one_digest_whatever_the_loaders_order(names: list[str]) -> None:
    tensors = dict(zip(("image", "row"), make_tensors(2, 3), strict=True))
    batch = Batch.of({name: tensors[name] for name in names})
    by_place = batch_digests(Batch.of(list(tensors.values())), ["image", "row"])
    assert batch_digests(batch, ["image", "row"]) == by_place
    assert len(set(by_place)) == 3


def test_esp_ppq_runs_each_form_alike(tmp_path: Path) -> None:
    model, images = network("residual"), torch.rand(1, 1, 28, 28)
    export_network("residual", tmp_path / "model.onnx")
    graph = parse_onnx(tmp_path / "model.onnx")
    forms: list[Any] = [images, [images], {"image": images}]
    outputs = [run_graph(graph, Batch.of(form), "cpu")[0] for form in forms]
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])
    assert torch.allclose(outputs[0], model(images), atol=1e-4)


@given(st.integers(1, 5), st.integers(0, 2), st.permutations(range(5)))
def test_samples_lie_along_their_axis(count: int, axis: int, order: list[int]) -> None:
    state = torch.arange(float(count * 6)).reshape(count, 2, 3).movedim(0, axis).contiguous()
    rate, rows = torch.ones(1), torch.arange(float(count))
    batch = Batch((state, rate, rows), axes=(axis, None, 0))
    assert batch.sample_count == count
    samples = list(batch.samples())
    assert [float(sample.tensors[2]) for sample in samples] == list(range(count))
    joined = Batch.joined(samples)
    assert joined.axes == batch.axes
    assert all(map(torch.equal, joined.tensors, batch.tensors))
    places = [place for place in order if place < count]
    taken = batch.take(places)
    assert taken.tensors[2].tolist() == places
    assert all(
        torch.equal(taken.tensors[0].select(axis, at), state.select(axis, place))
        for at, place in enumerate(places)
    )


def test_what_is_one_for_all_samples_must_not_differ() -> None:
    batches = [Batch((torch.ones(2, 3), torch.tensor([rate])), axes=(0, None)) for rate in (1, 2)]
    with pytest.raises(ValueError, match="input number 1, which holds no samples, differs"):
        Batch.joined(batches)


@given(st.lists(st.integers(1, 5), max_size=9), st.integers(0, 60))
def test_spread_samples_are_from_all_over(sizes: list[int], count: int) -> None:
    batches = [
        Batch.of(torch.tensor([[10.0 * number + place] for place in range(size)]))
        for number, size in enumerate(sizes)
    ]
    found = [float(sample.tensors[0]) for sample in spread_samples(batches, count)]
    assert len(found) == len(set(found)) == min(count, sum(sizes))
    if 0 < count <= len(sizes):
        # One of each part, however many there are; a batch may lie in two.
        for part, batch in enumerate(int(value // 10) for value in found):
            assert batch * count < (part + 1) * len(sizes)
            assert (batch + 1) * count > part * len(sizes)
