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
