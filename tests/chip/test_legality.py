"""What is legal on a chip, on real exports and on exports with a byte or two changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from espdl_quantize.chip import (
    UnreadableModelError,
    check_legality,
    parse_model,
    reject_illegal,
)
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._model import ChipModel, Node, Tensor
from espdl_quantize.chip._rules import examine
from espdl_quantize.core import IterationError, OutputFolderError
from espdl_quantize.setting import parse_setting
from tests.chip.made import Bytes, Export, make_export
from tests.networks import KINDS

BASELINE = parse_setting({"iteration_id": 0})


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return make_export(tmp_path_factory.mktemp("residual"), "residual", "esp32s3")


@pytest.fixture(scope="module")
def per_channel(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return make_export(tmp_path_factory.mktemp("per_channel"), "depthwise", "esp32p4")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4", "c"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_esp_ppq_exports_is_legal(kind: str, chip: str, bits: int, tmp_path: Path) -> None:
    # ESP-DL resizes in int8 alone.
    narrow = {"dispatching_table": [{"op": "/up/Resize", "bits": 8}]} if kind == "detector" else {}
    made = make_export(tmp_path, kind, chip, bits, narrow)
    legality = check_legality(made.file, chip, made.graph, made.layouts)
    assert legality.faults == ()
    assert legality.as_json()["nodes"] >= len(made.graph.operations) - 4


def test_ops_of_two_widths_in_one_model_are_legal(tmp_path: Path) -> None:
    table = [{"op": "/first/Conv", "bits": 16}, {"op": "/Add", "bits": 16}]
    made = make_export(tmp_path, "residual", "esp32p4", setting={"dispatching_table": table})
    legality = check_legality(made.file, "esp32p4", made.graph, made.layouts)
    assert legality.faults == ()
    assert legality.as_json()["nodes_by_width"]["S16"] >= 2


Change = Callable[[Bytes], None]
CHANGES: dict[str, tuple[Change, str, str]] = {
    "an output finer than its sum": (
        lambda model: model.set_exponent("/Relu_1_output_0", -18),
        "/first/Conv",
        "a shift by -1",
    ),
    "an exponent that no 32-bit integer can be shifted by": (
        lambda model: model.set_exponent("input.1", -40),
        "/stem/Conv",
        "the exponent -40",
    ),
    "a bias that is not in its sum's exponent": (
        lambda model: model.set_exponent("first.bias", -3),
        "/first/Conv",
        "its bias has the exponent -3",
    ),
    "a bias beyond the accumulator's 20 bits": (
        lambda model: model.set_number("first.bias", 0, 1 << 19, "int32"),
        "/first/Conv",
        "20 bits",
    ),
    "a pooling that changes the scale": (
        lambda model: model.set_exponent("/pool/MaxPool_output_0", -5),
        "/pool/MaxPool",
        "hands integers on",
    ),
    "a width that no kernel has": (
        lambda model: model.set_text("/Add", "quant_type", b"S9"),
        "/Add",
        "quant_type is 'S9'",
    ),
    "a Relu that is neither there nor fused": (
        lambda model: model.set_text("/first/Conv", "activation", b"Line"),
        "/Relu_1",
        "the file does not have it",
    ),
    "an op type that ESP-DL does not know": (
        lambda model: model.replace(b"\x07\0\0\0Flatten", b"\x07\0\0\0Flaxxen"),
        "/Flatten",
        "no kernel for Flaxxen",
    ),
    "a table whose exponent is not its output's": (
        lambda model: model.set_exponent("Relu_lut_0", -2),
        "/Relu_2",
        "its table is int8",
    ),
    "a weight whose scale is not the simulation's": (
        lambda model: model.set_exponent("head.weight", -10),
        "/head/Gemm",
        "'head.weight' has the exponents (-10,)",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_export_is_illegal(name: str, residual: Export, tmp_path: Path) -> None:
    change, op, reason = CHANGES[name]
    model = Bytes(residual.file.read_bytes())
    change(model)
    file = tmp_path / "model.espdl"
    file.write_bytes(model.result())
    legality = check_legality(file, "esp32s3", residual.graph, residual.layouts)
    assert not legality.legal
    assert any(fault.op == op and reason in fault.cause for fault in legality.faults), (
        legality.faults
    )
    with pytest.raises(IterationError, match="illegal on esp32s3") as caught:
        reject_illegal(legality, BASELINE)
    assert caught.value.hint


ALIGNMENT = {"fusion_alignment": {"align_elementwise_to": "None"}}


@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4", "c"])
@pytest.mark.parametrize(("kind", "op"), [("residual", "/Add"), ("adds constant", "/Add")])
def test_an_add_of_several_exponents_is_illegal(
    kind: str, op: str, chip: str, tmp_path: Path
) -> None:
    made = make_export(tmp_path, kind, chip, setting=ALIGNMENT)
    legality = check_legality(made.file, chip, made.graph, made.layouts)
    assert [(fault.rule, fault.op) for fault in legality.faults] == [("one exponent", op)]
    with pytest.raises(IterationError, match="adds raw integers") as caught:
        reject_illegal(legality, parse_setting({"iteration_id": 1, **ALIGNMENT}))
    assert "align_elementwise_to is 'None'" in caught.value.hint
    made = make_export(tmp_path / "default", kind, chip)
    assert check_legality(made.file, chip, made.graph, made.layouts).legal


def test_a_requantization_that_the_exporter_leaves_out_is_found(tmp_path: Path) -> None:
    plain = {"calib_algorithm": "minmax"}
    made = make_export(tmp_path, "small tanh", "esp32s3", 16, plain)
    legality = check_legality(made.file, "esp32s3", made.graph, made.layouts)
    assert [(fault.rule, fault.op_type) for fault in legality.faults] == [("one exponent", "Sub")]
    assert "-18" in legality.faults[0].cause
    assert "-17" in legality.faults[0].cause
    with pytest.raises(IterationError) as caught:
        reject_illegal(legality, parse_setting({"iteration_id": 0, **plain}))
    assert "force_alignment_overlap to true" in caught.value.hint
    # What the error says to do helps.
    mended = plain | {"fusion_alignment": {"force_alignment_overlap": True}}
    made = make_export(tmp_path / "fixed", "small tanh", "esp32s3", 16, mended)
    assert check_legality(made.file, "esp32s3", made.graph, made.layouts).legal


@pytest.mark.parametrize("op_type", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize(("exponents", "legal"), [((-5, -5), True), ((-5, -6), False)])
def test_a_comparison_needs_one_exponent_of_its_inputs(
    op_type: str, exponents: tuple[int, int], legal: bool
) -> None:
    first, second = (
        Tensor(name, "int8", (1, 4), (exponent,))
        for name, exponent in zip("ab", exponents, strict=True)
    )
    out = Tensor("c", "bool", (1, 4), (0,))
    node = Node("compare", op_type, ("a", "b"), ("c",), {"quant_type": "S8"})
    for constants, values in (({}, {"a": first, "b": second}), ({"b": second}, {"a": first})):
        model = ChipModel((node,), constants, {**values, "c": out}, ("a",), ("c",))
        legality = [fault.rule for fault in examine(model, chip_facts("esp32p4"))[0]]
        assert ("one exponent" not in legality) is legal


def test_every_channel_is_looked_at(per_channel: Export, tmp_path: Path) -> None:
    # esp-ppq's own check reads the first one.
    for channel in (5, 0):
        model = Bytes(per_channel.file.read_bytes())
        model.set_exponent("stem.weight", 20, place=channel)
        model.set_exponent("stem.bias", 13, place=channel)
        file = tmp_path / "model.espdl"
        file.write_bytes(model.result())
        (fault,) = check_legality(file, "esp32p4").faults
        assert (fault.rule, fault.op) == ("shift", "/stem/Conv")
        assert f"1 of 16 channels ({channel}) would be shifted left" in fault.cause


def test_a_channel_of_zeros_may_be_shifted_anywhere(per_channel: Export, tmp_path: Path) -> None:
    model = Bytes(per_channel.file.read_bytes())
    for place in range(9):
        model.set_number("stem.weight", 16 * place + 5, 0, "int8")
    model.set_number("stem.bias", 5, 0, "int32")
    model.set_exponent("stem.weight", 20, place=5)
    model.set_exponent("stem.bias", 13, place=5)
    file = tmp_path / "model.espdl"
    file.write_bytes(model.result())
    assert check_legality(file, "esp32p4").legal
    # One weight of that channel, and of no other, is enough.
    model.set_number("stem.weight", 16 * 3 + 5, 1, "int8")
    file.write_bytes(model.result())
    assert not check_legality(file, "esp32p4").legal


def test_c_kernels_shift_left_and_by_any_count(tmp_path: Path) -> None:
    made = make_export(tmp_path, "residual", "c")
    read = check_legality(made.file, "c").model
    assert read is not None
    for exponent in (-25, 28):
        model = Bytes(made.file.read_bytes())
        model.set_exponent(read.outputs[0], exponent)
        made.file.write_bytes(model.result())
        legality = check_legality(made.file, "c")
        assert (legality.faults, legality.doubts) == ((), ())


def test_a_per_channel_model_is_illegal_on_a_chip_without(per_channel: Export) -> None:
    legality = check_legality(per_channel.file, "esp32s3")
    assert {fault.rule for fault in legality.faults} >= {"exponents"}


def test_the_mend_names_what_to_drop(residual: Export, tmp_path: Path) -> None:
    model = Bytes(residual.file.read_bytes())
    model.set_exponent("/Relu_1_output_0", -18)
    file = tmp_path / "model.espdl"
    file.write_bytes(model.result())
    legality = check_legality(file, "esp32s3")
    trained = parse_setting({"iteration_id": 1, "tqt_optimization": {"enabled": True}})
    with pytest.raises(IterationError) as caught:
        reject_illegal(legality, trained)
    assert "leave '/first/Conv' out of tqt_optimization" in caught.value.hint
    assert "dispatch '/first/Conv' to 16 bits" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "fewer than its header"),
        (b"EDL1" + b"\0" * 60, "expected b'EDL2'"),
        (b"EDL2" + b"\1\0\0\0" + b"\0" * 56, "encrypted"),
        (b"EDL2" + b"\0\0\0\0" + b"\xff" * 56, "bytes follow|announces"),
        (b"EDL2" + b"\0\0\0\0" + b"\x30\0\0\0" + b"\0" * 4 + b"\xff" * 48, "damaged"),
    ],
)
def test_what_is_no_model(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableModelError, match=reason):
        parse_model(content)


def test_a_file_larger_than_any_flash_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.espdl"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 31)
    with pytest.raises(OutputFolderError, match="limit"):
        check_legality(file, "esp32s3")


def test_damage_anywhere_is_told_and_never_crashes(residual: Export, tmp_path: Path) -> None:
    whole, dice = residual.file.read_bytes(), random.Random(0)
    file = tmp_path / "model.espdl"
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(dice.choice((1, 4, 64))):
            damaged[dice.randrange(16, len(damaged))] = dice.randrange(256)
        file.write_bytes(damaged)
        legality = check_legality(file, "esp32s3", residual.graph, residual.layouts)
        assert legality.as_json()["legal"] is legality.legal
    for length in range(0, len(whole), 997):
        with pytest.raises(UnreadableModelError):
            parse_model(whole[:length])
