"""Fields of a setting beyond passes: each changes in the exported file what it says, no more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.chip import ChipModel, check_legality, read_model
from espdl_quantize.contract import QuantConfig, read_batches
from espdl_quantize.core import IterationError, SettingError
from espdl_quantize.ppq import probe_target
from espdl_quantize.setting import parse_setting, resolve
from tests.chip.made import make_export
from tests.contracts import CONFIG

BODY, PROJECT = "/body/Conv", "/project/Conv"


def exported(folder: Path, chip: str = "esp32s3", kind: str = "swish", **fields: Any) -> ChipModel:
    return read_model(make_export(folder, kind, chip, setting=fields).file)


def exponents(model: ChipModel) -> dict[str, tuple[int, ...]]:
    return {name: tensor.exponents for name, tensor in {**model.constants, **model.values}.items()}


def changed(first: ChipModel, second: ChipModel) -> set[str]:
    old, new = exponents(first), exponents(second)
    return {name for name in old if new.get(name) != old[name]}


def widths(model: ChipModel) -> dict[str, str]:
    return {node.name: node.width for node in model.nodes}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ChipModel:
    return exported(tmp_path_factory.mktemp("plain"), calib_algorithm="minmax")


def test_one_op_is_calibrated_by_itself(plain: ChipModel, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"calib_algorithm": "minmax", "percentile": 0.8}
    same = exported(tmp_path / "a", calib_algorithm_per_layer={}, **fields)
    assert not changed(plain, same)
    other = exported(tmp_path / "b", calib_algorithm_per_layer={BODY: "percentile"}, **fields)
    # The biases of what reads it have its exponent in theirs.
    assert "/body/Conv_output_0" in changed(plain, other)
    assert not changed(plain, other) & {"/stem/Conv_output_0", "/project/Conv_output_0"}


def test_a_smaller_percentile_clips_more(tmp_path: Path) -> None:
    default, same, smaller = (
        exported(tmp_path / str(value), calib_algorithm="percentile", percentile=value)
        for value in (None, 0.9999, 0.9)
    )
    assert not changed(default, same)
    lower = changed(default, smaller)
    activations = lower & set(default.values)
    assert activations
    for name in activations:
        assert smaller.values[name].exponent < default.values[name].exponent
    weights = {name for name in default.constants if name.endswith("weight")}
    assert not lower & weights


def test_weights_have_a_calibration_of_their_own(tmp_path: Path) -> None:
    default = exported(tmp_path / "default")
    clipped = exported(tmp_path / "all", weight_calib_algorithm="kl")
    weights = {name for name in default.constants if name.endswith("weight")}
    lower = changed(default, clipped) & weights
    assert len(lower) > 1
    name = min(lower)
    op = next(node.name for node in default.nodes if name in node.inputs)
    one = exported(tmp_path / "one", weight_calib_algorithm_per_layer={op: "kl"})
    assert changed(default, one) & weights == {name}


def test_weights_with_a_scale_per_channel_take_minmax_alone() -> None:
    setting = parse_setting({"iteration_id": 0, "weight_calib_algorithm_per_layer": {"a": "kl"}})
    with pytest.raises(SettingError, match=r"per_layer.*'a'.*by minmax alone"):
        resolve(setting, probe_target("esp32p4"))
    resolve(setting, probe_target("esp32s3"))


@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4", "c"])
def test_the_whole_model_has_another_width(chip: str, tmp_path: Path) -> None:
    wide = exported(tmp_path / "16", chip, width=16)
    assert set(widths(wide).values()) == {"S16"}
    mixed = exported(tmp_path / "w8a16", chip, width="w8a16")
    assert Counter(widths(mixed).values())["W8A16"] == 5
    assert {tensor.dtype for tensor in mixed.values.values()} == {"int16"}
    for name in ("stem.weight", "body.weight"):
        assert (wide.constants[name].dtype, mixed.constants[name].dtype) == ("int16", "int8")
    again = exported(tmp_path / "8", chip, width=8)
    assert set(widths(again).values()) == {"S8"}


def test_one_op_has_weights_of_8_bits_under_activations_of_16(tmp_path: Path) -> None:
    model = exported(tmp_path, dispatching_table=[{"op": PROJECT, "bits": "w8a16"}])
    assert widths(model)[PROJECT] == "W8A16"
    assert model.constants["project.weight"].dtype == "int8"


def test_what_only_a_later_esp_dl_has_is_told() -> None:
    setting = parse_setting({"iteration_id": 0, "width": "w8a16"})
    (warning,) = resolve(setting, probe_target("esp32s3")).warnings
    assert "ESP-DL 3.3.9 has no kernel" in warning


@pytest.mark.parametrize("tables", [True, False])
def test_16_bit_functions_become_tables_in_an_8_bit_model(
    tables: bool, plain: ChipModel, tmp_path: Path
) -> None:
    (swish,) = {node.name for node in plain.nodes if "/stem/Conv_output_0" in node.inputs}
    table = [{"op": op, "bits": 16} for op in ("/stem/Conv", swish, BODY)]
    model = exported(tmp_path / "b", dispatching_table=table, int16_tables=tables)
    (node,) = [node for node in model.nodes if node.name == swish]
    assert node.op_type == ("LUT" if tables else "Swish")
    assert node.width == "S16"
    if tables:
        name = node.attributes["lut"]
        assert len(model.constants[name].data) == 65536 // 32 + 1


def test_one_tensor_has_another_width_where_its_kernel_takes_it(tmp_path: Path) -> None:
    bits = [{"op": PROJECT, "tensor": "input_1", "bits": 16}]
    export = make_export(tmp_path, "swish", "esp32s3", setting={"tensor_bits": bits})
    model = read_model(export.file)
    assert model.constants["project.weight"].dtype == "int16"
    (fault,) = check_legality(export.file, "esp32s3", export.graph, export.layouts).faults
    assert fault.op == PROJECT
    bits.append({"op": PROJECT, "tensor": "input_1", "bits": 8})
    table = [{"op": PROJECT, "bits": 16}]
    fields: dict[str, Any] = {"tensor_bits": bits[1:], "dispatching_table": table}
    narrow = exported(tmp_path / "narrow", **fields)
    assert narrow.constants["project.weight"].dtype == "int8"


@pytest.mark.parametrize("tensor", ["weight", "input", "output_", "input_-1", "input_1000", ""])
def test_a_tensor_is_named_by_its_place(tensor: str) -> None:
    entry = {"op": "a", "tensor": tensor, "bits": 16}
    with pytest.raises(SettingError, match=r"tensor_bits\.0\.tensor"):
        parse_setting({"iteration_id": 0, "tensor_bits": [entry]})


def test_the_file_has_words_of_yours(tmp_path: Path) -> None:
    from esp_ppq.parser.espdl import helper

    words = {"who": "me", "zw\u00f6lf": "\u2713 \"'", "": "empty"}
    with pytest.raises(SettingError, match="metadata"):
        parse_setting({"iteration_id": 0, "metadata": words})
    del words[""]
    export = make_export(
        tmp_path, "swish", "esp32s3", setting={"metadata": words, "model_version": 2**40}
    )
    model = helper.Model.Model.GetRootAs(export.file.read_bytes()[16:], 0)
    entries = [model.MetadataProps(place) for place in range(model.MetadataPropsLength())]
    assert {entry.Key().decode(): entry.Value().decode() for entry in entries} == words
    assert model.ModelVersion() == 2**40


def streamed(folder: Path, kind: str = "causal", **streaming: Any) -> ChipModel:
    """Export a network of time steps, whose input is [1, 28, 28]: 28 values of 28 frames."""
    from espdl_quantize.contract import load_contract
    from espdl_quantize.core import NoProgress
    from espdl_quantize.ppq import export, prepare_float_model, quantize, target_names
    from tests.contracts import write_contract

    path = write_contract(
        folder,
        config={**CONFIG, "input_shape": [28, 28], "calib_steps": 2},
        calibration="from tests.networks import calibration_images\n"
        "    return calibration_images(32).squeeze(1).split(16)",
        model=f"from tests.networks import network\n    return network({kind!r})",
    )
    contract = load_contract(path, target_names())
    config = QuantConfig.model_validate({**CONFIG, "input_shape": [28, 28], "calib_steps": 2})
    setting = parse_setting({"iteration_id": 0, "streaming": streaming})
    resolved = resolve(setting, probe_target("esp32s3"))
    float_model = prepare_float_model(contract, folder)
    made = quantize(float_model, config, resolved, read_batches(contract), NoProgress())
    export(made, folder / "model.espdl")
    assert check_legality(folder / "model.espdl", "esp32s3").legal
    return read_model(folder / "model.espdl")


@pytest.mark.parametrize("frames", [1, 4])
def test_a_streaming_model_keeps_frames_between_calls(frames: int, tmp_path: Path) -> None:
    model = streamed(tmp_path, input_shape=[1, 28, frames])
    caches = [node for node in model.nodes if node.op_type == "StreamingCache"]
    assert [cache.attributes["window_size"] for cache in caches] == [3, 3]
    first = model.tensor(caches[0].inputs[0])
    assert first is not None
    assert first.shape == (1, frames, 28)
    pads = [node.attributes["pads"] for node in model.nodes if node.op_type == "Conv"]
    assert pads == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("kind", "streaming", "cause"),
    [
        ("not causal", {"input_shape": [1, 28, 1]}, r"pads \[1, 1\].*still to come"),
        ("causal", {"input_shape": [1, 14, 1]}, r"\[1, 14, 1\].*fewer frames"),
        ("causal", {"input_shape": [1, 28, 28]}, "fewer frames"),
        ("causal", {"input_shape": [1, 28, 0]}, "fewer frames"),
        ("causal", {"input_shape": [1, 28]}, "fewer frames"),
        ("causal", {"input_shapes": {"x": [1, 28, 1]}}, "'x', which is no input"),
        (
            "causal",
            {"input_shape": [1, 28, 1], "caches": [{"variable": "x", "window_size": 2}]},
            "caches names 'x'",
        ),
    ],
)
def test_what_cannot_stream_is_refused(
    kind: str, streaming: dict[str, Any], cause: str, tmp_path: Path
) -> None:
    with pytest.raises(IterationError, match=cause):
        streamed(tmp_path, kind, **streaming)


@pytest.mark.parametrize(
    "streaming",
    [
        {},
        {"input_shape": [1, 2], "input_shapes": {"x": [1, 2]}},
        {"auto": False, "input_shape": [1, 2]},
    ],
)
def test_a_streaming_section_says_what_it_needs(streaming: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="streaming"):
        parse_setting({"iteration_id": 0, "streaming": streaming})
