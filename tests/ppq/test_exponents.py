"""The search over exponents: what moves together, what a chip can compute, and what is won."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from esp_ppq.api import get_target_platform
from esp_ppq.executor import TorchExecutor
from esp_ppq.IR import QuantableOperation

from espdl_quantize.chip import check_model
from espdl_quantize.contract import Batch, QuantConfig
from espdl_quantize.core import Engine, NoProgress
from espdl_quantize.ppq import (
    FloatModel,
    QuantizedModel,
    engine_for,
    export,
    graph_digest,
    probe_target,
    quantize,
    setting_digest,
)
from espdl_quantize.ppq._snapshot import state_of_graph
from espdl_quantize.ppq.exponents import ExponentSearchPass
from espdl_quantize.ppq.exponents.groups import Exponents, exponents_of
from espdl_quantize.ppq.exponents.objective import is_worth
from espdl_quantize.setting import ExponentSearch, Setting, parse_setting, resolve
from tests.chip.made import Export, make_export
from tests.contracts import CONFIG
from tests.networks import calibration_images, export_network

SECTION = ExponentSearch(enabled=True, samples=16, rounds=2)
NETWORKS = [
    ("residual", "esp32s3"),
    ("relu6 residual", "esp32p4"),
    ("detector", "c"),
    ("swish", "esp32p4"),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda pair: "-".join(pair))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return plain(tmp_path_factory.mktemp("made"), *request.param)


@pytest.fixture
def graph(made: Export) -> Iterator[Any]:
    kept = state_of_graph(made.graph)
    yield made.graph
    kept.restore()


def plain(folder: Path, kind: str, chip: str, bits: int = 8) -> Export:
    return make_export(folder, kind, chip, bits, setting={"calib_algorithm": "minmax"})


def search(
    graph: Any, made: Export, *, plainly: bool = False, **fields: Any
) -> tuple[float, float]:
    section = SECTION.model_copy(update=fields)
    found = ExponentSearchPass(section, made.batches, 2, "cpu", NoProgress(), plainly=plainly)
    found.optimize(graph)
    return found.errors


def held(graph: Any) -> Exponents:
    return Exponents(graph.topological_sort())


def exponents(graph: Any) -> list[list[int]]:
    scales = [scale for group in held(graph).groups for scale in group.scales]
    return [exponents_of(scale).flatten().tolist() for scale in scales]


def noise(graph: Any, made: Export) -> float:
    """Return the power of the noise over that of the signal, as esp-ppq's executor has it."""
    executor = TorchExecutor(graph=graph, device="cpu")
    batch = made.batches[0].as_esp_ppq()
    ops = [op for op in graph.operations.values() if isinstance(op, QuantableOperation)]
    found = executor.forward(batch)
    for op in ops:
        op.dequantize()
    wanted = executor.forward(batch)
    for op in ops:
        op.restore_quantize_state()
    pairs = zip(found, wanted, strict=True)
    return sum(float((a - b).square().sum() / b.square().sum()) for a, b in pairs)


def disturb(graph: Any, place: int, steps: int) -> bool:
    """Move a group, if a chip can compute what comes of it."""
    movable = held(graph)
    group = movable.groups[place % len(movable.groups)]
    scales = movable.moved(group, steps)
    if scales is not None:
        movable.move(group, scales)
    return scales is not None


def check(graph: Any, made: Export, folder: Path, bits: int = 8) -> None:
    """Export the graph: the chip can run it, and its integers are the simulation's."""
    file = folder / "moved.espdl"
    platform = get_target_platform(made.chip, f"w{bits}a{bits}")
    model = QuantizedModel(graph, platform, Setting(iteration_id=0), {}, (), ())
    with engine_for(Engine.FAST).install() as engine:
        layouts = export(model, file, engine=engine)
        checked = check_model(file, made.chip, graph, layouts, made.batches, "cpu", engine=engine)
    assert not checked.legality.faults
    assert checked.integers is not None
    # The simulation adds up in float32, which rounds sums of 16-bit products.
    least = 1.0 if bits == 8 else 0.99
    for op in checked.integers.ops:
        assert op.agreement.exact >= least * op.agreement.outputs, op


@pytest.mark.parametrize("steps", [3, -3])
def test_an_exponent_that_is_off_comes_back(steps: int, graph: Any, made: Export) -> None:
    calibrated = noise(graph, made)
    assert disturb(graph, 0, steps) or disturb(graph, 1, steps)
    disturbed = noise(graph, made)
    before, after = search(graph, made)
    assert disturbed < 1.5 * calibrated or after < before
    assert noise(graph, made) < max(1.5 * calibrated, 0.5 * disturbed)


def test_the_outputs_are_never_further_off(graph: Any, made: Export) -> None:
    before, after = search(graph, made)
    assert 0 < after <= before
    before, after = search(graph, made)
    assert after <= before


def test_both_engines_and_every_run_find_the_same(graph: Any, made: Export) -> None:
    disturb(graph, 1, 2)
    kept = state_of_graph(graph)
    found = []
    for plainly in (False, False, True):
        search(graph, made, rounds=1, plainly=plainly)
        found.append(exponents(graph))
        kept.restore()
    assert found[0] == found[1] == found[2]


def test_what_was_moved_runs_on_the_chip(graph: Any, made: Export, tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    groups = held(graph).groups
    moved = 0
    for place in range(len(groups)):
        moved += disturb(graph, place, int(torch.randint(-2, 3, (), generator=random)))
    assert moved > len(groups) / 4
    search(graph, made)
    check(graph, made, tmp_path)


def test_only_what_the_named_ops_read_and_write_moves(graph: Any, made: Export) -> None:
    names = [op.name for op in graph.topological_sort() if op.is_computing_op]
    few = Exponents(graph.topological_sort(), names[-1:]).groups
    assert 0 < len(few) < len(held(graph).groups)
    assert all(names[-1] in {op.name for op in group.ops} for group in few)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_exponents_that_esp_ppq_fixes_stay(kind: str, tmp_path: Path) -> None:
    export = plain(tmp_path, kind, "esp32s3")
    recurrent = next(op for op in export.graph.operations.values() if op.type in ("GRU", "LSTM"))
    inside = {id(config.dominated_by) for config, _ in recurrent.config_with_variable}
    moving = {id(config) for group in held(export.graph).groups for config in group.configs}
    assert moving
    assert not inside & moving


def test_16_bits_move_too(tmp_path: Path) -> None:
    export = plain(tmp_path, "residual", "esp32p4", 16)
    assert disturb(export.graph, 0, 4)
    disturbed = noise(export.graph, export)
    search(export.graph, export, rounds=1)
    assert noise(export.graph, export) < disturbed
    check(export.graph, export, tmp_path, 16)


def test_a_move_that_wins_less_than_the_noise_is_left_alone() -> None:
    now = torch.ones(8)
    assert not is_worth(now, now)
    assert not is_worth(now - 0.001, now)
    assert not is_worth(now - torch.tensor([1.0, -0.9] * 4), now)
    assert not is_worth(now * torch.nan, now)
    assert is_worth(now - torch.tensor([0.1, 0.09] * 4), now)
    assert is_worth(now[:1] - 0.1, now[:1])


def test_a_setting_runs_it_between_calibration_and_training_and_its_result_is_reused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "net.onnx"
    export_network("residual", file)
    config = QuantConfig.model_validate({**CONFIG, "target": "esp32s3", "calib_steps": 2})
    batches = [Batch.of(images) for images in torch.split(calibration_images(48), 16)]
    model = FloatModel(file, [[1, 28, 28]], "cpu")
    training = {"enabled": True, "steps": 1}

    def run(**fields: Any) -> tuple[QuantizedModel, list[str]]:
        stages = Stages()
        asked = parse_setting({"iteration_id": 0, "calib_algorithm": "kl", **fields})
        resolved = resolve(asked, probe_target("esp32s3"))
        with engine_for(Engine.FAST).install() as engine:
            quantized = quantize(
                model, config, resolved, batches, stages, engine=engine, memory=tmp_path / "memory"
            )
        assert not engine.records
        return quantized, stages.names

    first, names = run(exponent_search=SECTION.model_dump(), tqt_optimization=training)
    order = [names.index(name) for name in ("runtime calibration", "exponent search", "tqt")]
    assert order == sorted(order)
    again, _ = run(exponent_search=SECTION.model_dump(), tqt_optimization=training)
    assert "exponent search" in {one.name for one in again.reused}
    digests = [graph_digest(one.graph, one.setting) for one in (first, again)]
    assert digests[0] == digests[1]
    settings = [one.setting for one in (first, run(tqt_optimization=training)[0])]
    assert len({setting_digest(each, "esp32s3", 8) for each in settings}) == 2


class Stages(NoProgress):
    """Remembers the names of stages."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def stage(self, name: str) -> AbstractContextManager[None]:
        self.names.append(name)
        return super().stage(name)
