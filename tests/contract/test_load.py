import os
import sys
from pathlib import Path

import pytest

from espdl_quantize.contract import ContractFaultsError, load_contract
from espdl_quantize.core import SHELL, ContractError
from tests.contracts import CONFIG, write_contract

TARGETS = ("esp32p4", "esp32s3")


def test_a_contract_may_import_its_neighbours_at_load_and_later(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("VALUE = 41\n")
    (tmp_path / "lazy_neighbour.py").write_text("VALUE = 1\n")
    path = write_contract(
        tmp_path,
        prelude="import neighbour\n",
        evaluate="import lazy_neighbour as lazy\n    return {'top1': neighbour.VALUE + lazy.VALUE}",
    )
    contract = load_contract(path, TARGETS)
    assert contract.call("evaluate", None) == {"top1": 42}


def test_two_contracts_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_contract(tmp_path / name, evaluate=f"return {{'top1': {name!r}}}")
    first = load_contract(tmp_path / "a" / "user_quant.py", TARGETS)
    second = load_contract(tmp_path / "b" / "user_quant.py", TARGETS)
    assert first.call("evaluate", None) == {"top1": "a"}
    assert second.call("evaluate", None) == {"top1": "b"}


def test_faults_of_config_and_functions_come_together(tmp_path: Path) -> None:
    path = tmp_path / "user_quant.py"
    path.write_text("QUANT_CONFIG = {'model_type': 'torch'}\ndef evaluate(): ...\ncollate_fn = 3\n")
    with pytest.raises(ContractFaultsError) as caught:
        load_contract(path, TARGETS)
    keys = {fault.key for fault in caught.value.faults}
    assert {
        'QUANT_CONFIG["target"]',
        "create_calib_dataloader()",
        "get_torch_model()",
        "evaluate()",
        "collate_fn()",
    } <= keys
    assert caught.value.exit_code == 3


def test_the_onnx_file_is_found_from_the_contracts_folder(tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "onnx", "onnx_path": "sub/net.onnx"}
    path = write_contract(tmp_path, config=config)
    with pytest.raises(ContractFaultsError, match=r"sub/net\.onnx"):
        load_contract(path, TARGETS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "net.onnx").write_bytes(b"")
    contract = load_contract(path, TARGETS)
    assert contract.onnx_path == tmp_path.resolve() / "sub" / "net.onnx"
    assert contract.model_name == "net"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("\n\nraise ValueError('boom')\n", "line 3.*boom"),
    ],
)
def test_a_module_that_does_not_load_names_line_and_cause(
    tmp_path: Path, source: str, message: str
) -> None:
    path = tmp_path / "user_quant.py"
    path.write_text(source)
    with pytest.raises(ContractError, match=message):
        load_contract(path, TARGETS)


def test_a_missing_file_points_to_init(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="starter_contract") as caught:
        load_contract(tmp_path / "nothing.py", TARGETS)
    assert "espdl-quantize init" in SHELL.spell(caught.value.hint)


def test_ignored_keys_are_kept_for_the_report(tmp_path: Path) -> None:
    path = write_contract(tmp_path, config={**CONFIG, "comment": "x"})
    assert load_contract(path, TARGETS).ignored_keys == ("comment",)


def test_a_contract_that_exits_is_told_like_any_other_fault(tmp_path: Path) -> None:
    """SystemExit passes by whoever catches exceptions, and would end the command with its code."""
    exiting = write_contract(tmp_path, prelude="import sys\nsys.exit(0)\n")
    with pytest.raises(ContractError, match=r"does not load \(line 2\): SystemExit: 0"):
        load_contract(exiting, ["esp32s3"])
    contract = load_contract(write_contract(tmp_path, evaluate="raise SystemExit(0)"), ["esp32s3"])
    with pytest.raises(RuntimeError, match=r"evaluate\(\) called sys.exit\(0\)"):
        contract.call("evaluate", None)


def test_what_is_in_the_file_now_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what Python has compiled of a file of the same size and second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("one", "two"):
        path = write_contract(tmp_path, config={**CONFIG, "model_name": name})
        os.utime(path, (1e9, 1e9))
        assert load_contract(path, ["esp32s3"]).config.model_name == name
