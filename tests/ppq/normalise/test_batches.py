"""Torch models whose export at a batch of one is another model for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from espdl_quantize.contract import Batch, load_contract
from espdl_quantize.ppq import prepare_float_model
from espdl_quantize.ppq.equivalence import compare_with_source
from tests.contracts import CONFIG, write_contract

PARTS = {
    "view by the batch": ("torch.nn.Linear(18, 4)", [2, 3, 3], "self.part(x.view(x.shape[0], -1))"),
    "flattened rows": ("torch.nn.Linear(3, 4)", [5, 2, 3], "self.part(x.flatten(1, 2)).mean(1)"),
    "flattened pixels": (
        "torch.nn.LSTM(2, 3, batch_first=True)",
        [2, 3, 3],
        "self.part(x.flatten(2).transpose(1, 2))[0].mean(1)",
    ),
    "heads": (
        "torch.nn.Linear(6, 6)",
        [4, 6],
        "self.part(x).reshape(x.shape[0], 4, 2, 3).transpose(1, 2).sum(3)",
    ),
    "attention": (
        "torch.nn.MultiheadAttention(6, 2, batch_first=True)",
        [4, 6],
        "self.part(x, x, x, need_weights=False)[0]",
    ),
    "sequence first": (
        "torch.nn.LSTM(6, 5)",
        [4, 6],
        "self.part(x.transpose(0, 1))[0].transpose(0, 1)",
    ),
    **{
        f"{kind}, {more or 'plain'}": (
            f"torch.nn.{kind}(6, 5, batch_first=True{more})",
            [4, 6],
            "self.part(x)[0].reshape(x.shape[0], -1)",
        )
        for kind in ("LSTM", "GRU")
        for more in ("", ", bidirectional=True", ", num_layers=2")
    },
}
MODEL = """import torch
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = {part}
        def forward(self, x):
            return {forward}
    torch.manual_seed(0)
    return Net().eval()"""


@pytest.mark.parametrize("name", PARTS)
def test_a_batch_is_computed_as_its_samples_are(name: str, tmp_path: Path) -> None:
    part, shape, forward = PARTS[name]
    error, ops = _read(tmp_path, MODEL.format(part=part, forward=forward), shape)
    assert error is not None
    assert error < 1e-5
    assert not {"Shape", "Expand", "ConstantOfShape", "Where"} & set(ops)


def _read(folder: Path, model: str, shape: Sequence[int]) -> tuple[float | None, list[str]]:
    config = {**CONFIG, "input_shape": list(shape), "batch_size": 5}
    contract = load_contract(write_contract(folder, config=config, model=model), ["esp32s3"])
    batch = Batch.of(torch.randn(5, *shape, generator=torch.Generator().manual_seed(0)))
    made = prepare_float_model(contract, folder, batch)
    graph = made.load()
    ops = [op.type for op in graph.operations.values()]
    return compare_with_source(contract, made, graph, batch).largest, ops
