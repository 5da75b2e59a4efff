"""Each contradiction between the contract and its model is named in its own words."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from espdl_quantize.contract import (
    DeclaredInput,
    ModelFile,
    QuantConfig,
    contradictions,
    forward_contradiction,
    read_model_file,
)
from espdl_quantize.contract._config import parse_config
from espdl_quantize.core import ContractError
from tests.contracts import CONFIG
from tests.there import there


def config_of(**changed: Any) -> QuantConfig:
    payload = CONFIG | {"model_type": "onnx", "onnx_path": "m.onnx"} | changed
    config, faults = parse_config(payload, ["esp32s3"])
    assert faults == []
    return there(config)


def file_of(*inputs: tuple[str, Sequence[Any]], dtype: str = "float") -> ModelFile:
    return ModelFile(tuple(DeclaredInput(n, dtype, tuple(shape)) for n, shape in inputs), ("y",))


IMAGE, ROW = ("image", ["n", 3, 32, 48]), ("row", [1, 28])


@pytest.mark.parametrize(
    ("config", "file", "code", "words"),
    [
        (
            {"input_shape": [3, 32, 48]},
            file_of(("x", [1, 32, 48, 3])),
            "input_shape_contradicts_the_file",
            r"channels last \(NHWC\): set input_shape to \[32, 48, 3\]",
        ),
        (
            {"input_shape": [32, 48, 3]},
            file_of(IMAGE),
            "input_shape_contradicts_the_file",
            r"channels first \(NCHW\): set input_shape to \[3, 32, 48\]",
        ),
        (
            {"input_shape": [3, 48, 32]},
            file_of(IMAGE),
            "input_shape_contradicts_the_file",
            r"height and width are swapped: set input_shape to \[3, 32, 48\]",
        ),
        (
            {"input_shape": [1, 3, 32, 48]},
            file_of(IMAGE),
            "input_shape_contradicts_the_file",
            r"without the batch: set it to \[3, 32, 48\]",
        ),
        (
            {"input_shape": [3, 64, 64]},
            file_of(IMAGE),
            "input_shape_contradicts_the_file",
            r"'image' \[n, 3, 32, 48\], the contract says \[batch, 3, 64, 64\].*to \[3, 32, 48\]",
        ),
        (
            {"input_shape": [2, 16]},
            file_of(("h", [2, "n", 16])),
            "batch_is_fixed",
            "to 2, batch_size is 16.*where axis 1 holds the samples",
        ),
        (
            {"input_shape": [3, 16]},
            file_of(("h", [3, 7, 16])),
            "input_shape_contradicts_the_file",
            "its axis 1 holds the samples",
        ),
        (
            {"input_shape": [[28], [3, 32, 48]]},
            file_of(IMAGE, ROW),
            "inputs_in_another_order",
            r"in the order 'image' \[n, 3, 32, 48\], 'row' \[1, 28\]; input_shape is in another",
        ),
        (
            {"input_shape": [3, 32, 48]},
            file_of(IMAGE, ROW),
            "input_missing",
            r"has 2 inputs \('image'.*'row'.*\), input_shape has 1",
        ),
        (
            {"input_shape": [[3, 32, 48], [28], [5]]},
            file_of(IMAGE, ROW),
            "input_unknown",
            "input_shape has 3.*without labels",
        ),
        (
            {"input_shape": {"image": [3, 32, 48], "line": [28]}},
            file_of(IMAGE, ROW),
            "input_missing",
            "names no 'row'.*rename 'line' to 'row'",
        ),
        (
            {"input_shape": {"image": [3, 32, 48], "row": [28], "label": [1]}},
            file_of(IMAGE, ROW),
            "input_unknown",
            "names 'label', which is no input",
        ),
        (
            {"input_shape": {"image": [3, 32, 48]}},
            file_of(IMAGE, ROW),
            "input_missing",
            "names no 'row'.*give 'row', too",
        ),
        (
            {"input_shape": [7]},
            file_of(("ids", ["n", 7]), dtype="int64"),
            "input_is_integer",
            "'ids' of the ONNX file is int64.*behind its embedding",
        ),
        (
            {"input_shape": [7]},
            file_of(("x", ["n", 7]), dtype="uint8"),
            "input_is_integer",
            "uint8.*Cast or DequantizeLinear",
        ),
        (
            {"input_shape": [7]},
            file_of(("x", ["n", 7]), dtype="float16"),
            "input_is_no_float32",
            "float16, expected float.*float32",
        ),
        (
            {"input_shape": [28], "batch_size": 16},
            file_of(("row", [4, 28])),
            "batch_is_fixed",
            "fixes the batch of input 'row' .* to 4, batch_size is 16",
        ),
        (
            {"input_shape": [28]},
            ModelFile((DeclaredInput("row", "float", (1, 28)),), ("y",), ("weights.bin",)),
            "external_data_missing",
            "weights.bin, which is not beside it",
        ),
        (
            {"input_shape": {"row": [28], "rate": []}, "batch_axis": {"rate": None}},
            file_of(ROW, ("rate", [1])),
            "input_shape_contradicts_the_file",
            r"'rate' \[1\], the contract says \[\]",
        ),
    ],
)
def test_a_contradiction_is_one_fault_in_its_own_words(
    config: dict[str, Any], file: ModelFile, code: str, words: str
) -> None:
    import re

    found = contradictions(config_of(**config), file)
    assert [each.code for each in found] == [code]
    assert re.search(words, f"{found[0].message}; {found[0].hint}"), found[0]


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ({"input_shape": [3, 32, 48]}, file_of(IMAGE)),
        ({"input_shape": [3, 32, 48]}, file_of(("x", [1, 3, "h", None]))),
        ({"input_shape": [3, 32, 48]}, ModelFile((DeclaredInput("x", "float", None),), ("y",))),
        ({"input_shape": [28], "batch_size": 16}, file_of(("row", [16, 28]))),
        ({"input_shape": [28], "convert_fp16": True}, file_of(ROW, dtype="float16")),
        ({"input_shape": {"row": [28], "image": [3, 32, 48]}}, file_of(IMAGE, ROW)),
        ({"input_shape": [[28], [28]]}, file_of(("a", ["n", 28]), ("b", ["n", 28]))),
        (
            {"input_shape": {"h": [2, 16], "rate": [1]}, "batch_axis": {"h": 1, "rate": None}},
            file_of(("rate", [1]), ("h", [2, "n", 16])),
        ),
    ],
)
def test_what_fits_is_no_contradiction(config: dict[str, Any], file: ModelFile) -> None:
    assert contradictions(config_of(**config), file) == []


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4),
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4),
)
def test_any_two_lists_of_shapes_give_words_or_fit(
    own: list[list[int]], theirs: list[list[int]]
) -> None:
    file = file_of(*((f"x{at}", ["n", *shape]) for at, shape in enumerate(theirs)))
    found = contradictions(config_of(input_shape=own), file)
    assert bool(found) == (own != theirs)
    assert all(each.message and each.hint for each in found)


def test_names_of_a_loader_are_held_against_the_file() -> None:
    config = config_of(input_shape=[[28], [3, 32, 48]])
    assert contradictions(config, file_of(IMAGE, ROW), ["row", "image"]) == []
    found = contradictions(config, file_of(IMAGE, ROW), ["row", "picture"])
    assert [each.subject for each in found] == ["image"]
    assert "the calibration loader names no 'image'" in found[0].message


def _zip(*names: str) -> Any:
    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1c\x00\x00\x00TFL3" + bytes(60), "a TensorFlow Lite model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "an HDF5 file, as Keras writes"),
        (b"EDL2" + bytes(60), "an .espdl file, quantized already"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "an empty file"),
        (b"\xff\xff\xff\xffgarbage", "is no ONNX model, or is damaged"),
        (b"\x08\x01", "is no ONNX model: it has no op"),
        (_zip("net/data.pkl", "net/version"), r"a file of torch.save\(\)"),
        (_zip("net/code/__torch__.py", "net/data.pkl"), "a TorchScript model"),
        (_zip("config.json", "model.weights.h5"), "a Keras model"),
        (lambda file: file.mkdir(), "a folder"),
    ],
)
def test_a_file_of_another_format_is_recognized(tmp_path: Path, content: Any, what: str) -> None:
    file = tmp_path / "model.onnx"
    if callable(content):
        content(file)
    else:
        file.write_bytes(content)
    with pytest.raises(ContractError, match=what):
        read_model_file(file)


def test_real_files_of_torch_are_recognized(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    for zipped in (True, False):
        torch.save({"w": torch.ones(3)}, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ContractError, match=r"torch\.save\(\)|older versions of torch"):
            read_model_file(file)


def write_onnx(file: Path, *, external: str = "") -> None:
    weight = numpy_helper.from_array(np.ones((28, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["row", "w"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("row", TensorProto.FLOAT, ["n", 28]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [28, 4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weight],
    )
    onnx.save(
        helper.make_model(graph),
        str(file),
        save_as_external_data=bool(external),
        location=external or None,
        size_threshold=0,
    )


def test_a_file_is_read_without_the_weights(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    write_onnx(file)
    model = read_model_file(file)
    # What has a default is no input, as older exporters write weights.
    assert model.inputs == (DeclaredInput("row", "float", ("n", 28)),)
    assert model.outputs == ("y",)
    assert model.missing == ()


def test_weights_elsewhere_are_missed(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    write_onnx(file, external="w.bin")
    weights = tmp_path / "w.bin"
    size = len(weights.read_bytes())
    assert read_model_file(file).missing == ()
    weights.write_bytes(weights.read_bytes()[:100])
    assert read_model_file(file).missing == (f"w.bin (of 100 bytes, where {size} are needed)",)
    weights.unlink()
    assert read_model_file(file).missing == ("w.bin",)


class Forward:
    def plain(self, x: Any, h: Any) -> None: ...
    def optional(self, x: Any, mask: Any = None) -> None: ...
    def anything(self, *inputs: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "names", "count", "words"),
    [
        ("plain", None, 2, ""),
        (
            "plain",
            None,
            1,
            r"forward\(x, h\) of the torch model takes 2 inputs, a batch has 1.*'h'",
        ),
        ("plain", None, 3, "takes 2 inputs, a batch has 3.*collate_fn"),
        ("plain", ["h", "x"], 2, ""),
        ("plain", ["x", "state"], 2, "no 'h' and a 'state' that it lacks"),
        ("optional", None, 1, ""),
        ("optional", ["x"], 1, ""),
        ("optional", ["mask"], 1, "no 'x'"),
        ("anything", ["a"], 1, ""),
        ("anything", None, 7, ""),
    ],
)
def test_a_batch_is_held_against_forward(
    function: str, names: list[str] | None, count: int, words: str
) -> None:
    import re

    signature = inspect.signature(getattr(Forward(), function))
    found = forward_contradiction(signature, names, count)
    assert (found is not None) == bool(words)
    if found is not None:
        assert re.search(words, f"{found.message}; {found.hint}")
