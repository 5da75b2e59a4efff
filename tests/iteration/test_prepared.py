"""Data and model are read once, however many iterations use them."""

from pathlib import Path

from espdl_quantize.contract import Contract, load_contract
from espdl_quantize.iteration import Prepared
from tests.contracts import write_contract


def counting(folder: Path) -> Contract:
    """A contract that notes what it is asked for."""
    contract = load_contract(write_contract(folder), ["esp32s3"])
    module = contract.module
    calls: list[str] = []

    def note(name: str) -> None:
        function = getattr(module, name)
        setattr(module, name, lambda: (calls.append(name), function())[1])

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
