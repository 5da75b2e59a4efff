"""Scales that cannot come to another exponent are not trained, and nothing else changes by that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from espdl_quantize.core import Engine
from espdl_quantize.ppq import engine_for
from espdl_quantize.ppq.fast.training import TqtTrainer
from espdl_quantize.ppq.fast.training._scales import Scales
from espdl_quantize.ppq.fast.training._trainer import _Steps
from espdl_quantize.record import MOST_LOSSES, block_losses
from tests.ppq.fast.training.test_block import Blocks


class Training:
    """What became of the first block of a network."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, *, rate: float, holds: bool, data: float = 1
    ) -> None:
        folder.mkdir()
        self.held: list[int] = []
        hold = Scales.hold

        def noting(scales: Scales, way: float, steps: int) -> list[torch.Tensor]:
            tensors = hold(scales, way, steps) if holds else []
            self.held.append(len(tensors))
            return tensors

        with patch.context() as patched, engine_for(Engine.FAST).install():
            patched.setattr(Scales, "hold", noting)
            blocks = Blocks("depthwise", "esp32p4", 4, folder)
            block, (inputs, outputs) = blocks.blocks[0], blocks.data[0]
            inputs = [{name: value * data for name, value in one.items()} for one in inputs]
            self.losses = TqtTrainer(blocks.optimization).finetune(
                5, rate, block, blocks.executor, inputs, outputs
            )
        configs = [
            (config, variable) for op in block.rps for config, variable in op.config_with_variable
        ]
        self.weights = [
            variable.value.detach().clone() for _, variable in configs if variable.is_parameter
        ]
        self.scales = [
            config.scale.tolist() for config, _ in configs if isinstance(config.scale, torch.Tensor)
        ]


def same(one: Any, other: Any) -> bool:
    return torch.equal(torch.nan_to_num(one, 1e30), torch.nan_to_num(other, 1e30))


@pytest.mark.parametrize("data", [1.0, float("nan")])
def test_every_weight_and_loss_is_the_same_to_the_last_bit(
    data: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, held = (
        Training(tmp_path / str(holds), monkeypatch, rate=1e-4, holds=holds, data=data)
        for holds in (False, True)
    )
    assert trained.held == [0]
    assert held.held[0] > 5
    assert str(held.losses) == str(trained.losses)
    assert str(held.scales) == str(trained.scales)
    for one, other in zip(held.weights, trained.weights, strict=True):
        assert same(one, other)


def test_no_scale_is_held_that_could_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Training(tmp_path / "wide", monkeypatch, rate=0.3, holds=True).held == [0]


def test_the_loss_over_the_steps_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = Training(tmp_path / "a", monkeypatch, rate=0.3, holds=True).losses
    ends = ["# Block [1 / 1]: [a -> b]", "# Tuning Finished  : (1.0 -> 1.0) [Block Loss]"]
    (block,) = block_losses([ends[0], *capsys.readouterr().out.splitlines(), ends[1]])
    steps, losses = zip(*block.losses, strict=True)
    assert steps == (0, 1, 2, 3, 4, 5, 5)
    assert (losses[0], losses[-1]) == (pytest.approx(before), pytest.approx(after))
    # The first step's is that of one batch before anything is trained.
    assert 0.5 < losses[1] / losses[0] < 2
    assert len(set(losses)) > 4


@pytest.mark.parametrize(("steps", "batches"), [(1, 1), (48, 7), (500, 8), (500, 64), (1300, 512)])
def test_points_are_few_and_means_of_whole_rounds(steps: int, batches: int) -> None:
    noted = _Steps(steps, batches)
    for step in range(steps):
        noted.add(torch.tensor(float(step % batches), requires_grad=True))
    points = noted.points()
    assert 1 <= len(points) <= MOST_LOSSES - 2
    places = [step for step, _ in points]
    assert places == sorted(set(places)) and places[-1] <= steps
    if steps >= 10 * batches:
        assert {loss for _, loss in points[:-1]} == {(batches - 1) / 2}
