import re
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import Contract, load_contract, located, read_batches, starter_contract
from espdl_quantize.core import ContractError
from tests.contracts import write_contract

TARGETS = ("esp32s3",)


def contract(folder: Path, **parts: Any) -> Contract:
    return load_contract(write_contract(folder, prelude="import torch\n", **parts), TARGETS)


def blamed(of: Contract, name: str) -> ContractError:
    """Call a function of the contract that raises, and tell the error."""
    try:
        of.call(name)
    except Exception as raised:
        return located(ContractError("it failed", "fix it"), of, raised=raised)
    raise AssertionError(f"{name} does not raise")


def line_of(of: Contract, text: str) -> int:
    lines = of.path.read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_the_users_line_is_named_and_not_torchs(tmp_path: Path) -> None:
    of = contract(tmp_path, model="return torch.zeros(2, 3) @ torch.zeros(2, 3)")
    message = blamed(of, "get_torch_model").cause
    assert message == f"it failed (user_quant.py:{line_of(of, '@')}, in get_torch_model())"


def test_a_neighbour_of_the_contract_is_the_users_too(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "net.py").write_text("def build():\n\n    return 1 / 0\n")
    of = contract(tmp_path, model="from nets.net import build\n    return build()")
    assert blamed(of, "get_torch_model").cause == "it failed (nets/net.py:3, in build())"


def test_an_installed_package_in_the_folder_is_not_the_users(tmp_path: Path) -> None:
    packages = tmp_path / "venv/lib/site-packages"
    packages.mkdir(parents=True)
    (packages / "other.py").write_text("def build():\n    return 1 / 0\n")
    model = f"import sys; sys.path.append({str(packages)!r})\n    import other; other.build()"
    of = contract(tmp_path, model=model)
    assert re.search(
        r"user_quant\.py:\d+, in get_torch_model\(\)", blamed(of, "get_torch_model").cause
    )


def test_a_todo_that_is_not_filled_in_is_named(tmp_path: Path) -> None:
    model = "return load()\ndef load():\n    raise NotImplementedError('your model here')"
    assert blamed(contract(tmp_path, model=model), "get_torch_model").hint == (
        "fill in the TODO in load()"
    )


def test_what_torch_does_not_implement_is_no_todo(tmp_path: Path) -> None:
    of = contract(tmp_path, model="return torch.nn.Module()(1)")
    blame = blamed(of, "get_torch_model")
    assert "get_torch_model" in blame.cause
    assert blame.hint == "fix it"


def test_an_error_of_nobodys_code_stays_as_it_is(tmp_path: Path) -> None:
    of, fault = contract(tmp_path), ContractError("it failed", "fix it")
    assert located(fault, of) is fault
    assert located(fault, of, raised=ValueError("never raised")) is fault


def test_a_line_is_named_once(tmp_path: Path) -> None:
    of = contract(tmp_path, model="return 1 / 0")
    fault = blamed(of, "get_torch_model")
    try:
        of.call("get_torch_model")
    except ZeroDivisionError as raised:
        assert located(fault, of, raised=raised) is fault


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_names_the_line_of_its_dataset(tmp_path: Path, workers: int) -> None:
    of = contract(
        tmp_path,
        calibration=f"return torch.utils.data.DataLoader(Images(), num_workers={workers})",
        extra="class Images(torch.utils.data.Dataset):\n"
        "    def __len__(self):\n        return 8\n"
        "    def __getitem__(self, number):\n        raise ValueError('bad image')\n",
    )
    with pytest.raises(ContractError) as caught:
        read_batches(of)
    message = caught.value.cause
    assert "bad image" in message
    assert "\n" not in message
    assert f"user_quant.py:{line_of(of, 'bad image')}, in __getitem__()" in message


def test_an_unfilled_starter_says_what_to_fill_in(tmp_path: Path) -> None:
    path = tmp_path / "user_quant.py"
    path.write_text(starter_contract("torch"))
    of = load_contract(path, TARGETS)
    with pytest.raises(ContractError, match="loader is empty") as caught:
        read_batches(of)
    assert caught.value.hint == "fill in the TODO in create_calib_dataloader()"
    assert blamed(of, "get_torch_model").hint == "fill in the TODO in get_torch_model()"


def test_an_empty_loader_without_a_todo(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="loader is empty") as caught:
        read_batches(contract(tmp_path, calibration="return []"))
    assert "finds its samples" in caught.value.hint
    assert "calib_steps" not in str(caught.value)
