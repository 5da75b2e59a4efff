import ast
from pathlib import Path

import pytest

from espdl_quantize.contract import load_contract, starter_contract


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
