"""Data and model are read once, however many iterations use them."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from espdl_quantize.contract import Batch, Contract, Keeper, load_contract
from espdl_quantize.core import OutputFolderError
from espdl_quantize.iteration import Prepared, _prepared
from tests.contracts import write_contract


def counting(folder: Path) -> Contract:
    """A contract that notes what it is asked for."""
    contract = load_contract(write_contract(folder), ["esp32s3"])
    module = contract.module
    calls: list[str] = []

    def note(name: str) -> None:
        function = getattr(module, name)

        def counted() -> Any:
            calls.append(name)
            return function()

        setattr(module, name, counted)

    note("create_calib_dataloader")
    note("get_torch_model")
    setattr(module, "CALLS", calls)  # noqa: B010
    return contract


def test_data_and_model_are_asked_for_once(tmp_path: Path) -> None:
    contract = counting(tmp_path)
    told: list[int] = []
    with Prepared(contract) as prepared:
        batches, length = prepared.batches(0, lambda done, _: told.append(done))
        model, graph = prepared.float_model(batches[0])
        assert told == list(range(1, len(batches) + 1))
        assert length == len(batches)
        assert model.onnx_file.is_file()

        again, _ = prepared.batches(0, lambda done, _: told.append(done))
        assert again is batches
        assert prepared.float_model(batches[0]) == (model, graph)
        assert contract.module.CALLS == ["create_calib_dataloader", "get_torch_model"]

        # A loader that shuffles depends on the seed.
        other, _ = prepared.batches(1, lambda done, _: None)
        assert other is not batches
    assert not model.onnx_file.exists()
    assert contract.module.CALLS.count("create_calib_dataloader") == 2


LARGE = """import torch
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(400, 1, 28, 28, generator=generator) for _ in range(9)]"""


def read(folder: Path) -> list[Batch]:
    contract = load_contract(write_contract(folder, calibration=LARGE), ["esp32s3"])
    with Prepared(contract) as prepared:
        return prepared.batches(0, lambda done, _: None)[0]


def test_many_batches_are_kept_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = read(tmp_path)
    monkeypatch.setattr(_prepared, "IN_MEMORY", 2 * wanted[0].nbytes)
    monkeypatch.setattr(Keeper, "memory_limit", 2 * wanted[0].nbytes)
    mapped: list[int] = []
    from_file = torch.from_file

    def noting(*given: Any, **named: Any) -> torch.Tensor:
        mapped.append(named["size"])
        return from_file(*given, **named)

    monkeypatch.setattr(torch, "from_file", noting)
    found = read(tmp_path)
    assert mapped == [wanted[0].tensors[0].numel()] * 7
    assert len(found) == len(wanted) == 9
    for spilled, kept in zip(found, wanted, strict=True):
        assert torch.equal(spilled.tensors[0], kept.tensors[0])


def test_of_endless_data_as_much_is_read_as_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_prepared, "IN_MEMORY", 1)
    monkeypatch.setattr(_prepared, "ON_DISK", 1)
    assert len(read(tmp_path)) == 4


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_prepared, "IN_MEMORY", 1)
    monkeypatch.setattr(_prepared, "spill_batch", full)
    with pytest.raises(OutputFolderError, match=r"1254400 bytes.*No space left.*TMPDIR"):
        read(tmp_path)
