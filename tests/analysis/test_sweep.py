"""The sweep over several batches at once, and the elements that analyses look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from esp_ppq.utils.fetch import batch_random_fetch, tensor_random_fetch
from torch import Tensor

from espdl_quantize.cli.engines import TOLERANCE, largest_difference
from espdl_quantize.contract import load_contract, read_batches
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.ppq import engine_for, prepare_float_model, probe_target, quantize, target_names
from espdl_quantize.ppq.measure import sweep
from espdl_quantize.ppq.measure.records import sample, sample_each
from espdl_quantize.ppq.measure.sweep import Alone
from espdl_quantize.setting import parse_setting, resolve
from tests.contracts import write_contract

MIXING = """class Mixing(torch.nn.Module):
    \"\"\"What it says of an image depends on the others of its batch.\"\"\"

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 4, 3, 2)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.second(x - x.mean(dim=0, keepdim=True)).mean(dim=(2, 3))


"""


def made(folder: Path, model: str, prelude: str = "", **fields: Any) -> tuple[Any, list[Any]]:
    """Return a quantized graph and its calibration batches."""
    contract = load_contract(write_contract(folder, model=model, prelude=prelude), target_names())
    setting = parse_setting({"iteration_id": 0, "calib_algorithm": "minmax", **fields})
    resolved = resolve(setting, probe_target(contract.config.target))
    with engine_for(Engine.FAST).install() as engine:
        float_model, batches = prepare_float_model(contract, folder), read_batches(contract)
        graph = quantize(
            float_model, contract.config, resolved, batches, NoProgress(), engine=engine
        ).graph
    return graph, batches


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take note of how many batches ran behind single ops at once."""
    found: list[int] = []
    build = Alone.__init__

    def noting(self: Any, plan: Any, runner: Any, batches: Any) -> None:
        build(self, plan, runner, batches)
        found.append(len(batches))

    monkeypatch.setattr(Alone, "__init__", noting)
    return found


@pytest.mark.parametrize("kind", ["depthwise", "residual", "detector"])
def test_batches_at_once_measure_the_same(
    kind: str, stacks: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = f"from tests.networks import network\n    return network('{kind}')"
    graph, batches = made(tmp_path, model)
    with engine_for(Engine.FAST).install() as engine:
        together = engine.measure(graph, batches, "cpu", 3, NoProgress())
        assert stacks == [1, 3]
        monkeypatch.setattr(sweep, "_AT_ONCE", 1)
        alone = engine.measure(graph, batches, "cpu", 3, NoProgress())
    assert stacks == [1, 3, 1, 1, 1, 1]
    assert largest_difference(together.layerwise, alone.layerwise) <= TOLERANCE
    assert together.graphwise == alone.graphwise


def test_samples_that_depend_on_each_other_are_not_stacked(
    stacks: list[int], tmp_path: Path
) -> None:
    graph, batches = made(tmp_path, "return Mixing().eval()", f"import torch\n\n\n{MIXING}")
    with engine_for(Engine.REFERENCE).install() as engine:
        plain = engine.measure(graph, batches, "cpu", 3, NoProgress())
    with engine_for(Engine.FAST).install() as engine:
        fast = engine.measure(graph, batches, "cpu", 3, NoProgress())
    # All were tried at once, and then went one by one.
    assert stacks == [1, 3, 1, 1, 1]
    assert largest_difference(plain.layerwise, fast.layerwise) <= TOLERANCE


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_changes_amplitudes_alike_whatever_the_noise(bits: int, tmp_path: Path) -> None:
    model = "from tests.networks import network\n    return network('detector')"
    table = [{"op": "/low/Conv", "bits": bits}]
    graph, batches = made(tmp_path, model, dispatching_table=table)
    with engine_for(Engine.REFERENCE).install() as engine:
        plain = engine.measure(graph, batches, "cpu", 1, NoProgress()).layerwise
    with engine_for(Engine.FAST).install() as engine:
        fast = engine.measure(graph, batches, "cpu", 1, NoProgress()).layerwise
    assert largest_difference(plain, fast) <= TOLERANCE
    # Of the noise of an int16 layer, rounding is a large part.
    difference = abs(fast["/low/Conv"] / plain["/low/Conv"] - 1)
    assert (difference > 1e-4) == (bits == 16)


@pytest.mark.parametrize("shape", [(4, 8, 5, 7), (2, 3, 1, 9), (3, 1, 4, 4), (1, 16, 1, 1)])
def test_the_elements_of_images_are_esp_ppqs_in_any_layout(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    images = torch.randn(shape)
    for tensor in (images, images.contiguous(memory_format=torch.channels_last)):
        check_elements(tensor, images)


def check_elements(tensor: Tensor, images: Tensor) -> None:
    assert torch.equal(
        sample(tensor, 100), tensor_random_fetch(images, seed=10086, num_of_fetches=100)
    )
    wanted = batch_random_fetch(images, seed=10086, fetches_per_batch=50)
    assert torch.equal(sample_each(tensor, 50), wanted)
