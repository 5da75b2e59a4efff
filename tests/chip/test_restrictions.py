"""What ESP-DL's kernels cannot do, each on a file that esp-ppq exports without a word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from espdl_quantize.chip import Legality, check_legality
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._model import ChipModel, Node
from espdl_quantize.chip._model import Tensor as FileTensor
from espdl_quantize.chip._rules import examine
from espdl_quantize.chip.restrictions import merged_dimensions
from espdl_quantize.core import ContractError
from espdl_quantize.targets.ops import op_table, parse_version, remedy_of
from tests.chip.made import Bytes, Export, export_of, make_export

VERSION = parse_version("3.3.9")


class _Then(nn.Module):
    """A Conv, and what is asked about behind it."""

    def __init__(self, behind: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.conv, self.behind = nn.Conv2d(1, channels, 3, padding=1), behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(torch.relu(self.conv(x)))  # type: ignore[no-any-return]


class _Call(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[no-any-return]


class _Batched(nn.Module):
    """Quarters of an image as a batch of four."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.reshape(4, 1, 14, 14))  # type: ignore[no-any-return]


def legality_of(export: Export, **more: Any) -> Legality:
    return check_legality(export.file, export.chip, export.graph, export.layouts, **more)


BROKEN: dict[str, tuple[Any, int, str, str]] = {
    "four groups": (
        lambda: _Then(nn.Conv2d(8, 8, 3, groups=4)),
        8,
        "restriction",
        "it has 4 groups of 8 channels",
    ),
    "a depthwise multiplier": (
        lambda: _Then(nn.Conv2d(8, 16, 3, groups=8)),
        8,
        "restriction",
        "makes 16 channels of 8",
    ),
    "a batch inside": (_Batched, 8, "restriction", "is a batch of 4"),
    "an int16 Resize": (
        lambda: _Then(nn.Upsample(scale_factor=2)),
        16,
        "width",
        "its kernel has no int16",
    ),
    "a dilated MaxPool": (
        lambda: _Then(nn.MaxPool2d(3, dilation=2)),
        8,
        "restriction",
        "its dilations is (2, 2)",
    ),
    "a MaxPool that rounds up": (
        lambda: _Then(nn.MaxPool2d(3, ceil_mode=True)),
        8,
        "restriction",
        "its ceil_mode is 1",
    ),
    "an AveragePool that rounds up": (
        lambda: _Then(nn.AvgPool2d(3, ceil_mode=True)),
        8,
        "restriction",
        "its ceil_mode is 1",
    ),
    "a cubic Resize": (
        lambda: _Then(nn.Upsample(scale_factor=2, mode="bicubic")),
        8,
        "restriction",
        "its mode is cubic",
    ),
    "an error function": (lambda: _Then(_Call(torch.erf)), 8, "op type", "no kernel for Erf"),
    "an absolute value": (lambda: _Then(_Call(torch.abs)), 8, "op type", "no kernel for Abs"),
    "a sine": (lambda: _Then(_Call(torch.sin)), 8, "op type", "no kernel for Sin"),
    "Softplus": (lambda: _Then(nn.Softplus()), 8, "op type", "no kernel for Softplus"),
    "a maximum": (
        lambda: _Then(_Call(lambda x: torch.maximum(x, x * 0.5 + 0.1))),
        8,
        "op type",
        "no kernel for Max",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_chip_cannot_run_is_a_fault(name: str, tmp_path: Path) -> None:
    network, bits, rule, cause = BROKEN[name]
    chip = ("esp32s3", "esp32p4", "c")[list(BROKEN).index(name) % 3]
    legality = legality_of(export_of(tmp_path, network, chip, bits))
    assert any(fault.rule == rule and cause in fault.cause for fault in legality.faults), (
        legality.faults
    )
    assert {fault.rule for fault in legality.faults} == {rule}


FINE = {
    "depthwise": lambda: _Then(nn.Conv2d(8, 8, 3, groups=8)),
    "ceil_mode that rounds nothing": lambda: _Then(nn.MaxPool2d(2, ceil_mode=True)),
    "an average that rounds nothing": lambda: _Then(nn.AvgPool2d(2, 2, ceil_mode=True)),
    "GELU by tanh": lambda: _Then(nn.GELU(approximate="tanh")),
    "one slope for all channels": lambda: _Then(nn.PReLU(1)),
    "a bilinear Resize": lambda: _Then(nn.Upsample(scale_factor=2, mode="bilinear")),
    "aligned corners": lambda: _Then(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    ),
    "a transposed Conv": lambda: _Then(nn.ConvTranspose2d(8, 4, 2, stride=2)),
    "a pixel shuffle": lambda: _Then(nn.PixelShuffle(2)),
    "ReLU6": lambda: _Then(nn.ReLU6()),
    "a maximum of all pixels": lambda: _Then(_Call(lambda x: x.amax(dim=(2, 3), keepdim=True))),
}


@pytest.mark.parametrize("name", FINE)
def test_what_looks_alike_and_runs_is_legal(name: str, tmp_path: Path) -> None:
    chip = ("esp32s3", "esp32p4", "c")[list(FINE).index(name) % 3]
    legality = legality_of(export_of(tmp_path, FINE[name], chip))
    assert (legality.faults, legality.doubts) == ((), ())


def test_every_missing_op_has_a_remedy() -> None:
    table = op_table()
    assert "tanh form" in remedy_of("Erf")
    assert "torch.relu" in remedy_of("Max")
    assert "HardMax" in remedy_of("HardMax")
    assert not set(table.remedies) & set(table.ops)
    assert not set(table.later) & set(table.ops)


def test_fused_attention_needs_a_later_version(tmp_path: Path) -> None:
    whole = make_export(tmp_path / "fused", "transformer", "esp32p4")
    legality = legality_of(whole)
    assert legality.legal
    assert [doubt.rule for doubt in legality.doubts] == ["later version"]
    assert "espdl_attention_fusion" in legality.doubts[0].cause
    named = legality_of(whole, esp_dl=VERSION)
    assert [fault.rule for fault in named.faults] == ["op type"]
    assert named.doubts == ()
    assert legality_of(whole, esp_dl=parse_version("3.4.0")).doubts == legality.doubts
    off = {"extra": {"espdl_attention_fusion": False}}
    plain = make_export(tmp_path / "plain", "transformer", "esp32p4", setting=off)
    legality = legality_of(plain, esp_dl=VERSION)
    assert (legality.faults, legality.doubts) == ((), ())
    assert {"MatMul", "Softmax"} <= {node.op_type for node in legality.model.nodes}  # type: ignore[union-attr]


def test_weights_of_8_bits_under_16_need_a_later_version(tmp_path: Path) -> None:
    from esp_ppq.api import espdl_quantize_torch

    torch.manual_seed(0)
    network, file = _Then(nn.Conv2d(8, 8, 3)).eval(), tmp_path / "model.espdl"
    espdl_quantize_torch(
        model=network,
        espdl_export_file=str(file),
        calib_dataloader=[torch.randn(1, 1, 28, 28)] * 8,
        calib_steps=8,
        input_shape=[1, 1, 28, 28],
        target="esp32p4",
        quant_type="w8a16",
        device="cpu",
        verbose=0,
    )
    legality = check_legality(file, "esp32p4")
    assert legality.legal
    assert {doubt.rule for doubt in legality.doubts} == {"later version"}
    assert "W8A16 needs an ESP-DL later than 3.3.9" in legality.doubts[0].cause
    named = check_legality(file, "esp32p4", esp_dl=VERSION)
    assert {fault.rule for fault in named.faults} == {"width"}


def test_an_old_version_lacks_what_came_later(tmp_path: Path) -> None:
    export = export_of(tmp_path, lambda: _Then(nn.PixelShuffle(2)), "esp32s3")
    assert legality_of(export, esp_dl=parse_version("v3.2.1")).legal
    legality = legality_of(export, esp_dl=parse_version("3.2.0"))
    assert "DepthToSpace needs ESP-DL 3.2.1, and 3.2.0 is named" in legality.faults[0].cause


@pytest.mark.parametrize(
    "text", ["", "3", "3.3", "3.3.x", "latest", "3.3.9.1", "9" * 400, "3.-1.0"]
)
def test_no_version(text: str) -> None:
    with pytest.raises(ContractError, match="no version of ESP-DL"):
        parse_version(text)


def test_a_prelu_rescales_its_positives_in_a_vector_unit_alone(tmp_path: Path) -> None:
    for chip, bits, legal in (
        ("esp32s3", 8, True),
        ("esp32p4", 8, True),
        ("c", 8, False),
        ("esp32s3", 16, False),
        ("esp32p4", 16, False),
    ):
        export = export_of(tmp_path / f"{chip}{bits}", lambda: _Then(nn.PReLU(8)), chip, bits)
        model = Bytes(export.file.read_bytes())
        read = check_legality(export.file, chip).model
        assert read is not None
        (prelu,) = (node for node in read.nodes if node.op_type == "PRelu")
        assert check_legality(export.file, chip).legal
        exponent = read.values[prelu.outputs[0]].exponent
        model.set_exponent(prelu.outputs[0], exponent - 1)
        export.file.write_bytes(model.result())
        faults = check_legality(export.file, chip).faults
        assert (faults == ()) is legal, (chip, bits)
        assert legal or "need one exponent" in faults[0].cause


def test_the_scale_of_a_clips_limits_is_its_inputs(tmp_path: Path) -> None:
    export = export_of(tmp_path, lambda: _Then(nn.ReLU6()), "c", 16)
    read = check_legality(export.file, "c").model
    assert read is not None
    (clip,) = (node for node in read.nodes if node.op_type == "Clip")
    model = Bytes(export.file.read_bytes())
    model.set_exponent(clip.inputs[2], read.constants[clip.inputs[2]].exponent + 1)
    export.file.write_bytes(model.result())
    (fault,) = check_legality(export.file, "c").faults
    assert "compares raw integers" in fault.cause


def _alone(op_type: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> list[str]:
    """Return the faults of an op, alone in a model, that esp-ppq makes of no torch module."""
    image = FileTensor("a", "int8", shape, (0,))
    outputs = {"GRU": ("b", "h"), "LSTM": ("b", "h", "c")}.get(op_type, ("b",))
    node = Node("op", op_type, ("a",), outputs, {"quant_type": "S8", **attributes})
    tensors = {name: FileTensor(name, "int8", shape, (0,)) for name in ("b", "h")}
    cell = FileTensor("c", "int16", shape, (-8,))
    model = ChipModel((node,), {}, {"a": image, **tensors, "c": cell}, ("a",), ("b",))
    faults, _ = examine(model, chip_facts("esp32p4"))
    return [fault.cause for fault in faults if fault.rule == "restriction"]


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes", "cause"),
    [
        ("DepthToSpace", (1, 4, 4, 16), {"blocksize": 2, "mode": "DCR"}, "wrong places"),
        ("DepthToSpace", (1, 4, 4, 8), {"blocksize": 2, "mode": "DCR"}, ""),
        ("DepthToSpace", (1, 4, 4, 16), {"blocksize": 2, "mode": "CRD"}, ""),
        ("Pad", (1, 4), {"mode": "wrap"}, "its mode is wrap"),
        ("Pad", (1, 4), {"mode": "reflect"}, ""),
        ("Mod", (1, 4), {}, "its fmod is 0"),
        ("Mod", (1, 4), {"fmod": 1}, ""),
        ("GRU", (7, 1, 4), {}, "its linear_before_reset is 0"),
        ("GRU", (7, 3, 4), {"linear_before_reset": 1}, "a batch of 3"),
        ("LSTM", (3, 7, 4), {"layout": 1}, "a batch of 3"),
        ("LSTM", (7, 1, 4), {"direction": "reverse"}, "its direction is reverse"),
        ("Gemm", (1, 4), {"transA": 1}, "its transA is 1"),
        ("MaxPool", (1, 4, 4, 4, 8), {}, "5 dimensions"),
        ("Conv", (1, 4, 4, 8), {"auto_pad": "SAME_UPPER"}, "its auto_pad"),
    ],
)
def test_attributes_that_no_kernel_reads(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, Any], cause: str
) -> None:
    causes = _alone(op_type, shape, attributes)
    assert len(causes) == bool(cause)
    assert not cause or cause in causes[0]


@pytest.mark.parametrize(
    ("left", "right", "count"),
    [
        ((1, 28, 28, 8), (1, 28, 28, 8), 1),
        ((1, 28, 28, 8), (8,), 2),
        ((1, 28, 28, 8), (1,), 1),
        ((1, 28, 28, 8), (1, 1, 1, 8), 2),
        ((2, 3, 4, 5, 6), (2, 1, 4, 1, 6), 5),
        ((2, 3, 4, 5, 6), (1, 1, 4, 5, 6), 2),
        ((2, 1, 4, 1, 6), (1, 3, 1, 5, 1), 5),
        ((1, 1), (1,), 1),
        ((), (), 1),
    ],
)
def test_neighbouring_axes_are_joined(
    left: tuple[int, ...], right: tuple[int, ...], count: int
) -> None:
    assert merged_dimensions(left, right) == count
    assert merged_dimensions(right, left) == count


def test_the_table_names_a_source_and_a_day_for_each_op() -> None:
    for entry in op_table().ops.values():
        assert re.fullmatch(r"dl/module/include/dl_module_\w+\.hpp", entry.source), entry
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", entry.looked_at)
        assert entry.since <= op_table().version
        assert set(entry.widths) <= {"int8", "int16", "float32"} and entry.widths


def test_files_from_elsewhere_that_are_a_power_of_two_off_are_doubted(tmp_path: Path) -> None:
    # A ConvTranspose's InsertZeros and an Add, published with two exponents, run on boards.
    export = export_of(tmp_path, lambda: _Then(nn.ConvTranspose2d(8, 4, 2, stride=2)), "esp32p4")
    (node,) = (
        node
        for node in check_legality(export.file, "esp32p4").model.nodes  # type: ignore[union-attr]
        if node.op_type == "InsertZeros"
    )
    model = Bytes(export.file.read_bytes())
    model.set_exponent(node.outputs[0], -1)
    export.file.write_bytes(model.result())
    alone = check_legality(export.file, "esp32p4")
    assert "shared exponent" not in {fault.rule for fault in alone.faults}
    assert "shared exponent" in {doubt.rule for doubt in alone.doubts}
    assert "shared exponent" in {fault.rule for fault in legality_of(export).faults}
