import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from espdl_quantize.core import OutputFolderError, dumps, read_json, write_json


def test_what_is_not_json_becomes_null() -> None:
    text = dumps({"a": math.nan, "b": [math.inf, -math.inf], "c": np.float32("nan")})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [None, None], "c": None}


def test_scalars_arrays_and_tensors_are_plain() -> None:
    value = {"f": np.float64(0.5), "i": np.int64(3), "t": torch.tensor([1.0, 2.0]), 4: (Path("x"),)}
    assert json.loads(dumps(value)) == {"f": 0.5, "i": 3, "t": [1.0, 2.0], "4": ["x"]}


def test_an_object_without_a_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        dumps({"a": object()})


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})
    with pytest.raises(TypeError):
        write_json(file, {"new": object()})
    assert read_json(file) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe", b""])
def test_a_file_that_holds_no_object_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(OutputFolderError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
