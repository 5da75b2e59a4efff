"""Values that are computed once, and again where something changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from esp_ppq.executor import TorchExecutor

from espdl_quantize.contract import load_contract
from espdl_quantize.ppq import FloatModel, prepare_float_model, target_names
from espdl_quantize.ppq.fast import OpRunner
from espdl_quantize.ppq.fast.training._collect import Activations
from tests.contracts import write_contract
from tests.networks import calibration_images

BATCHES = list(calibration_images(8).split(4))  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("net")
    model = "from tests.networks import network\n    return network('residual')"
    contract = load_contract(write_contract(folder, model=model), target_names())
    loaded: FloatModel = prepare_float_model(contract, folder)
    return loaded.load()


class Counting(OpRunner):
    """Counts how often each op runs."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.counts: dict[str, int] = {}

    def run(self, op: Any, *args: Any, **kwargs: Any) -> list[Any]:
        self.counts[op.name] = self.counts.get(op.name, 0) + 1
        return super().run(op, *args, **kwargs)


def names(graph: Any) -> list[str]:
    return [op.outputs[0].name for op in graph.topological_sort()]


def expected(graph: Any, name: str) -> list[torch.Tensor]:
    executor = TorchExecutor(graph=graph, device="cpu")
    return [executor.forward(batch, [name])[0] for batch in BATCHES]


def assert_equal(found: list[dict[str, torch.Tensor]], graph: Any, name: str) -> None:
    for values, wanted in zip(found, expected(graph, name), strict=True):
        torch.testing.assert_close(values[name], wanted, rtol=1e-4, atol=1e-5)


def test_every_op_runs_once_per_batch(graph: Any) -> None:
    runner, wanted = Counting(), names(graph)
    activations = Activations(graph, runner, BATCHES, wanted)
    for name in wanted:
        assert_equal(activations.get([name]), graph, name)
    assert set(runner.counts.values()) == {len(BATCHES)}


def test_only_what_is_still_needed_is_kept(graph: Any) -> None:
    wanted = names(graph)
    activations = Activations(graph, OpRunner("cpu"), BATCHES, [wanted[-1]])
    activations.get([wanted[-1]])
    assert set(activations._values[0]) == set(graph.inputs)


def test_what_depends_on_a_changed_op_is_computed_again(graph: Any) -> None:
    order = graph.topological_sort()
    changed = next(op for op in order if op.type == "Conv")
    last = names(graph)[-1]
    activations = Activations(graph, OpRunner("cpu"), BATCHES, [last, last])
    before = activations.get([last])[0][last]
    weight = changed.inputs[1].value
    kept = weight.clone()
    try:
        weight.mul_(1.5)
        activations.forget([changed])
        found = activations.get([last])
        assert not torch.allclose(found[0][last], before)
        assert_equal(found, graph, last)
    finally:
        weight.copy_(kept)


def test_a_request_that_was_not_announced_is_answered(graph: Any) -> None:
    first, *_, last = names(graph)
    activations = Activations(graph, OpRunner("cpu"), BATCHES, [])
    assert_equal(activations.get([last]), graph, last)
    assert_equal(activations.get([first]), graph, first)
