"""Other draws of the calibration data."""

from __future__ import annotations

import torch

from espdl_quantize.contract import Batch
from espdl_quantize.iteration.auxiliary import drawn


def joined(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.tensors[0] for batch in batches])


def test_a_large_pool_is_mixed() -> None:
    batches = [Batch.of(part) for part in torch.split(torch.arange(20.0).reshape(20, 1), 4)]
    found = drawn(batches, 1, 0, calib_steps=2)
    assert [batch.sample_count for batch in found] == [4, 4, 4, 4, 4]
    assert sorted(joined(found).flatten().tolist()) == list(range(20))
    assert joined(found[:2]).tolist() != joined(batches[:2]).tolist()
    assert torch.equal(joined(found), joined(drawn(batches, 1, 0, calib_steps=2)))
    assert not torch.equal(joined(found), joined(drawn(batches, 2, 0, calib_steps=2)))
    assert not torch.equal(joined(found), joined(drawn(batches, 1, 1, calib_steps=2)))


def test_a_small_pool_is_resampled() -> None:
    batches = [Batch.of(part) for part in torch.split(torch.arange(10.0).reshape(10, 1), 4)]
    numbers = joined(drawn(batches, 1, 0, calib_steps=3)).flatten().tolist()
    assert len(numbers) == 10
    assert len(set(numbers)) < 10
    assert drawn(batches, 0, 0, calib_steps=3) is batches


def test_several_inputs_stay_together() -> None:
    left = torch.arange(8.0).reshape(8, 1)
    as_lists = [Batch.of([part, -part]) for part in torch.split(left, 2)]
    for batch in drawn(as_lists, 3, 0, calib_steps=1):
        first, second = batch.tensors
        assert torch.equal(first, -second)
    as_dicts = [Batch.of({"b": -part, "a": part}) for part in torch.split(left, 2)]
    for batch in drawn(as_dicts, 3, 0, calib_steps=1):
        by_name = batch.by_name(["a", "b"])
        assert torch.equal(by_name["a"], -by_name["b"])
        assert by_name["a"].min() >= 0
