"""A Softmax of an old opset, which is one along several axes, with whatever batch the file has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper

from espdl_quantize.contract import InputSpec
from espdl_quantize.ppq.normalise.files import OPSET, raised
from espdl_quantize.ppq.normalise.graph import opset_of
from espdl_quantize.ppq.onnx_runs import OnnxRun
from tests.ppq.normalise.made import model_of, numbers, read

KINDS = ("Softmax", "LogSoftmax", "Hardmax")


def opened(model: ModelProto, axis: int) -> ModelProto:
    """The same model for a batch of any size, along an axis of its input."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    copy.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "N"
    copy.graph.output[0].type.tensor_type.ClearField("shape")
    return copy


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    place=st.integers(1, 4),
    batch=st.sampled_from([1, "N"]),
    opset=st.sampled_from([8, 10, 11, 12]),
    is_negative=st.booleans(),
)
def test_any_batch_goes_through(
    kind: str, sizes: list[int], place: int, batch: int | str, opset: int, is_negative: bool
) -> None:
    axis = min(place, len(sizes))
    if is_negative and opset > 10:
        axis -= len(sizes) + 1
    attributes = {} if axis == 1 else {"axis": axis}
    node = helper.make_node(kind, ["x"], ["y"], name="soft", **attributes)
    model = model_of([node], sizes, opset=opset, batch=batch)
    before = opened(model, 0)
    changed = raised(model, {"x": InputSpec("x", tuple(sizes), 0)})
    assert opset_of(changed) == OPSET
    feeds = {"x": numbers(3, *sizes)}
    wanted, found = OnnxRun(before)(feeds)["y"], OnnxRun(opened(changed, 0))(feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_batch_behind_the_first_axis_is_left_open(kind: str) -> None:
    node = helper.make_node(kind, ["x"], ["y"], name="soft", axis=2)
    model = model_of([node], [1, 3, 4], opset=11, batch=5)
    before = opened(model, 1)
    changed = raised(model, {"x": InputSpec("x", (5, 3, 4), 1)})
    feeds = {"x": numbers(5, 3, 3, 4)}
    wanted, found = OnnxRun(before)(feeds)["y"], OnnxRun(opened(changed, 1))(feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("batch", [1, "N"])
def test_esp_ppq_reads_it_with_more_samples_than_the_file_has(kind: str, batch: int | str) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node(kind, ["r"], ["y"], name="soft"),
    ]
    result = read(model_of(nodes, [3, 4, 5], opset=11, batch=batch), [3, 4, 5])
    assert result.refused is None
    assert result.equivalence.faults == []
    largest = result.equivalence.largest
    assert largest is not None
    assert largest < 1e-5
