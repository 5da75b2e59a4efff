import ast
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from espdl_quantize.contract import (
    contradictions,
    load_contract,
    read_model_file,
    starter_contract,
    starter_from,
)
from espdl_quantize.core import UsageError


@pytest.mark.parametrize("model_type", ["torch", "onnx"])
def test_a_starter_loads_as_it_is(tmp_path: Path, model_type: str) -> None:
    source = starter_contract(model_type)  # type: ignore[arg-type]
    ast.parse(source)
    path = tmp_path / "user_quant.py"
    path.write_text(source)
    (tmp_path / "model.onnx").write_bytes(b"")
    contract = load_contract(path, ("esp32s3",))
    assert contract.config.model_type == model_type
    assert not contract.ignored_keys


def _export(file: Path, shapes: dict[str, list[int | str]]) -> None:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in shapes]
    outputs = [
        helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values, outputs)), str(file))


@pytest.mark.parametrize(
    ("shapes", "batched", "names"),
    [
        ({"image": ["n", 3, 32, 48]}, [[5, 3, 32, 48]], None),
        ({"image": [1, 3, 32, 48]}, [[5, 3, 32, 48]], None),
        (
            {"row": [1, 28], "state": [2, 1, 16], "rate": [1]},
            [[5, 28], [2, 5, 16], [1]],
            ("row", "state", "rate"),
        ),
        ({"state": [2, "n", 16]}, [[2, 5, 16]], ("state",)),
    ],
)
def test_a_starter_of_a_file_fits_it(
    tmp_path: Path,
    shapes: dict[str, list[int | str]],
    batched: list[list[int]],
    names: tuple[str, ...] | None,
) -> None:
    (tmp_path / "models").mkdir()
    file, path = tmp_path / "models" / "small net.onnx", tmp_path / "user_quant.py"
    _export(file, shapes)
    path.write_text(starter_from(str(file), path))
    contract = load_contract(path, ("esp32s3",))
    assert contract.model_name == "small net"
    assert contract.onnx_path == file
    assert contract.config.input_names == names
    assert [spec.batched(5) for spec in contract.config.inputs] == batched
    assert contradictions(contract.config, read_model_file(file)) == []
    assert "image_out" in path.read_text() or "state_out" in path.read_text()


def test_a_starter_of_a_function_calls_it(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text("import torch\ndef make():\n    return torch.nn.ReLU()\n")
    path = tmp_path / "user_quant.py"
    path.write_text(starter_from("my_net:make", path))
    contract = load_contract(path, ("esp32s3",))
    assert contract.model_name == "my_net"
    assert type(contract.call("get_torch_model")).__name__ == "ReLU"


@pytest.mark.parametrize("count", [1, 2])
def test_a_name_in_a_file_is_never_run(tmp_path: Path, count: int) -> None:
    evil = '"model_type": "onnx", "batch_size": 32,\n    raise SystemExit  # \u2028 😀\\'
    file, path = tmp_path / "a\"b'c.onnx", tmp_path / "user_quant.py"
    _export(file, {f"{evil}{number}": [f"n{evil}", 3, 8, 8] for number in range(count)})
    path.write_text(starter_from(str(file), path))
    contract = load_contract(path, ("esp32s3",))
    assert contract.onnx_path == file
    assert contract.model_name == file.stem
    if count > 1:
        assert contract.config.input_names == tuple(f"{evil}{number}" for number in range(count))


def test_a_starter_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'missing\.onnx' is no file"):
        starter_from("missing.onnx", tmp_path / "user_quant.py")


def test_the_usual_name_of_a_contract_names_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "keyword_spotting"
    folder.mkdir()
    path = folder / "user_quant.py"
    path.write_text(starter_contract("torch"))
    assert load_contract(path, ("esp32s3",)).model_name == "keyword_spotting"
