import ast
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from espdl_quantize.contract import (
    contradictions,
    load_contract,
    read_batches,
    read_model_file,
    starter_contract,
    starter_from,
)
from espdl_quantize.core import ContractError, UsageError
from espdl_quantize.ppq import parse_onnx


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
    nodes = [helper.make_node("Sigmoid", [name], [f"{name}_out"]) for name in shapes]
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


def _fill_in(path: Path, sample: str) -> None:
    """Give a starter what it asks for: files to load, and what is in them."""
    source = path.read_text(encoding="utf-8")
    start = source.index("    raise NotImplementedError(", source.index("def load_sample"))
    end = source.index("\n", start)
    path.write_text(f"{source[:start]}    return {sample}{source[end:]}", encoding="utf-8")
    for number in range(8):
        for folder in ("calibration", f"test/{number % 2}", "score"):
            (path.parent / "data" / folder).mkdir(parents=True, exist_ok=True)
            (path.parent / "data" / folder / f"{number}.jpg").touch()


@pytest.mark.parametrize(
    ("shapes", "sample"),
    [
        ({"image": [4, 4]}, "torch.rand(4)"),
        ({"x": [4, 5], "y": [4, 5]}, '{"x": torch.rand(5), "y": torch.rand(5)}'),
        (
            {"y": ["n", 5], "h\n'\"0": [2, "n", 3], "rate": [1]},
            "dict(zip(QUANT_CONFIG['input_shape'], "
            "(torch.rand(5), torch.rand(2, 3), torch.ones(1))))",
        ),
    ],
)
def test_a_starter_works_once_its_samples_can_be_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shapes: dict[str, list[int | str]],
    sample: str,
) -> None:
    file, path = tmp_path / "it's \U0001f600.onnx", tmp_path / "user_quant.py"
    _export(file, shapes)
    path.write_text(starter_from(str(file), path), encoding="utf-8")
    # The folder where a command runs is another one.
    monkeypatch.chdir("/")
    with pytest.raises(ContractError) as empty:
        read_batches(load_contract(path, ("esp32s3",)))
    assert empty.value.hint == "fill in the TODO in create_calib_dataloader()"
    with pytest.raises(NotImplementedError, match="data/test has no samples"):
        load_contract(path, ("esp32s3",)).call("load_test_batches")
    _fill_in(path, sample)
    contract = load_contract(path, ("esp32s3",))
    assert contract.onnx_path == file
    batches = read_batches(contract)
    assert sum(batch.sample_count for batch in batches) == 8
    graph = parse_onnx(file)
    score = contract.call("evaluate", graph)
    assert len(score["per_sample"]) == 8
    # The variants in its comments are code, too.
    source = path.read_text(encoding="utf-8")
    for start in ("# def evaluate(", "# def create_score_dataloader("):
        block = source[source.index(start) :].partition("\n\n\n")[0]
        source += "\n\n" + "\n".join(line[2:] for line in block.split("\n"))
    path.write_text(source, encoding="utf-8")
    contract = load_contract(path, ("esp32s3",))
    assert len(list(contract.call("create_score_dataloader"))) == (
        2 if "n" not in str(shapes) else 1
    )
    if len(shapes) == 1:
        assert contract.call("evaluate", graph)["error"] > 0


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
