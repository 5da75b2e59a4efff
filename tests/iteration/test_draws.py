"""Other draws of the calibration data."""

from __future__ import annotations

import torch

from espdl_quantize.iteration.auxiliary import drawn


def test_a_large_pool_is_mixed() -> None:
    batches = list(torch.split(torch.arange(20.0).reshape(20, 1), 4))
    found = drawn(batches, 1, 0, calib_steps=2)
    assert [len(batch) for batch in found] == [4, 4, 4, 4, 4]
    assert sorted(torch.cat(found).flatten().tolist()) == list(range(20))
    assert torch.cat(found[:2]).tolist() != torch.cat(batches[:2]).tolist()
    assert torch.equal(torch.cat(found), torch.cat(drawn(batches, 1, 0, calib_steps=2)))
    assert not torch.equal(torch.cat(found), torch.cat(drawn(batches, 2, 0, calib_steps=2)))
    assert not torch.equal(torch.cat(found), torch.cat(drawn(batches, 1, 1, calib_steps=2)))


def test_a_small_pool_is_resampled() -> None:
    batches = list(torch.split(torch.arange(10.0).reshape(10, 1), 4))
    found = torch.cat(drawn(batches, 1, 0, calib_steps=3)).flatten().tolist()
    assert len(found) == 10
    assert len(set(found)) < 10
    assert drawn(batches, 0, 0, calib_steps=3) is batches


def test_several_inputs_stay_together() -> None:
    left = torch.arange(8.0).reshape(8, 1)
    as_lists = [[part, -part] for part in torch.split(left, 2)]
    for one, two in drawn(as_lists, 3, 0, calib_steps=1):
        assert torch.equal(one, -two)
    as_dicts = [{"b": -part, "a": part} for part in torch.split(left, 2)]
    for batch in drawn(as_dicts, 3, 0, calib_steps=1):
        assert torch.equal(batch["a"], -batch["b"])
