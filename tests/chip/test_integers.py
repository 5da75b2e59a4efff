"""The exported integers, computed as on the chip, beside esp-ppq's simulation."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espdl_quantize.chip import check_model, read_model
from espdl_quantize.chip._facts import chip_facts
from espdl_quantize.chip._model import Tensor as FileTensor
from espdl_quantize.chip.integers import check_integers, unpack, unpack_matrices
from espdl_quantize.chip.integers._arithmetic import rescale
from espdl_quantize.ppq import FastEngine, QuantizationEngine, ReferenceEngine
from espdl_quantize.ppq.fast import OpRunner
from espdl_quantize.targets import Rounding
from tests.chip.made import Bytes, Export, make_export
from tests.matrix import thinned
from tests.networks import KINDS


@given(
    st.integers(-(2**45), 2**45),
    st.integers(-8, 70),
    st.integers(1, 4096),
    st.sampled_from(["half-up", "half-even"]),
)
def test_rescaling_is_exact(total: int, shift: int, divisor: int, rounding: Rounding) -> None:
    exact = Fraction(total) / (divisor * Fraction(2) ** shift)
    half = Fraction(1, 2)
    wanted = (exact + half).__floor__() if rounding == "half-up" else round(exact)
    found = int(rescale(torch.tensor(total), shift, rounding, divisor))
    assert found == wanted


@pytest.mark.parametrize("platform", ["ESPDL_INT8", "ESPDL_INT16", "ESPDL_S3_INT8", "ESPDL_C_INT8"])
@pytest.mark.parametrize(
    ("count", "channels", "group"),
    [(16, 3, 1), (40, 7, 1), (5, 4, 1), (24, 1, 24), (7, 1, 7), (20, 3, 4)],
)
@pytest.mark.parametrize("window", [(3, 2), (5,)])
def test_unpacking_undoes_esp_ppqs_packing(
    platform: str, count: int, channels: int, group: int, window: tuple[int, ...]
) -> None:
    from esp_ppq.core import TargetPlatform
    from esp_ppq.parser.espdl.export_patterns import ResetParamLayoutPattern

    width = "S16" if "16" in platform else "S8"
    shape = (count, channels, *window)
    weight = torch.arange(np.prod(shape)).reshape(shape) % 251 - 125  # type: ignore[call-overload]
    packed, _ = ResetParamLayoutPattern().reset_conv_filter_layout(
        weight, width, group, TargetPlatform[platform]
    )
    stored = FileTensor("w", "int16", tuple(packed.shape), (0,), packed.flatten().numpy())
    align = None if "_C_" in platform else 16 if width == "S8" else 8
    found = unpack(stored, align, grouped=group > 1)
    assert torch.equal(found.reshape(shape), weight)
    if group == 1 and window == (3, 2):
        matrix = weight[:, :, 0, 0]
        packed, _ = ResetParamLayoutPattern().reset_conv_filter_layout(
            matrix[:, :, None, None], width, None, TargetPlatform[platform]
        )
        stored = FileTensor("w", "int16", (channels, count), (0,), packed.flatten().numpy())
        assert torch.equal(unpack_matrices(stored, align), matrix.T)


def check(made: Export, file: Path | None = None, samples: int = 2) -> Any:
    found = check_model(
        file or made.file, made.chip, made.graph, made.layouts, made.batches, samples=samples
    )
    assert found.problem == ""
    return found


FLOAT_ON_CHIP = {
    "transformer": {"Attention", "LayerNormalization"},
}


@pytest.mark.parametrize(
    ("kind", "chip"), thinned(itertools.product(KINDS, ["esp32s3", "esp32p4", "c"]))
)
def test_every_int8_output_is_what_the_simulation_says(
    kind: str, chip: str, tmp_path: Path
) -> None:
    found = check(make_export(tmp_path, kind, chip)).integers
    total = found.total
    assert total.outputs > 1000
    assert total.exact == total.outputs
    assert total.largest == 0
    assert {one.op_type for one in found.skipped} == FLOAT_ON_CHIP.get(kind, set())
    assert found.end_to_end.outputs > 0
    assert found.end_to_end.exact == found.end_to_end.outputs


@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4"])
def test_int16_sums_differ_by_a_step_where_float32_rounds(chip: str, tmp_path: Path) -> None:
    narrow = {"dispatching_table": [{"op": "/up/Resize", "bits": 8}]}
    found = check(make_export(tmp_path, "detector", chip, 16, narrow)).integers
    assert found.total.percent > 99.5
    assert found.total.largest <= 1


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return make_export(tmp_path_factory.mktemp("residual"), "residual", "esp32s3")


def test_a_wrong_weight_is_found_where_it_is(residual: Export, tmp_path: Path) -> None:
    model = Bytes(residual.file.read_bytes())
    for place in range(64):
        model.set_number("second.weight", place, 127, "int8")
    file = tmp_path / "model.espdl"
    file.write_bytes(model.result())
    found = check(residual, file)
    wrong = [one for one in found.integers.ops if one.agreement.exact < one.agreement.outputs]
    assert [one.op for one in wrong] == ["/second/Conv"]
    assert found.integers.end_to_end.exact < found.integers.end_to_end.outputs
    assert any("/second/Conv" in warning for warning in found.warnings())


def test_an_add_is_of_raw_integers_whatever_the_exponents_are(tmp_path: Path) -> None:
    alignment = {"fusion_alignment": {"align_elementwise_to": "None"}}
    made = make_export(tmp_path, "residual", "esp32s3", setting=alignment)
    # The whole check refuses the file; of its integers, this is what the chip would make.
    refused = check_model(made.file, made.chip, made.graph, made.layouts, made.batches)
    assert refused.problem == "the model is illegal"
    sample = made.batches[0].first(1)
    model, facts = read_model(made.file), chip_facts(made.chip)
    found = check_integers(model, facts, made.graph, made.layouts, [sample])
    adds = [one.agreement for one in found.ops if one.op_type == "Add"]
    assert [one.percent < 50 for one in adds] == [True]  # type: ignore[operator]


def test_a_wrong_table_is_found_where_it_is(residual: Export, tmp_path: Path) -> None:
    model = Bytes(residual.file.read_bytes())
    for place in range(128, 256):
        model.set_number("Relu_lut_0", place, 3, "int8")
    file = tmp_path / "model.espdl"
    file.write_bytes(model.result())
    found = check(residual, file).integers
    wrong = [one.op for one in found.ops if one.agreement.exact < one.agreement.outputs]
    assert wrong == ["/Relu_2"]


def test_both_widths_in_one_model(tmp_path: Path) -> None:
    ops = ["/first/Conv", "/Add", "/head/Gemm"]
    for chip, chosen in itertools.product(("esp32s3", "esp32p4"), (ops[:1], ops)):
        table = [{"op": op, "bits": 16} for op in chosen]
        folder = tmp_path / f"{chip}{len(chosen)}"
        made = make_export(folder, "residual", chip, setting={"dispatching_table": table})
        found = check(made).integers
        assert found.total.percent > 99.9
        assert found.total.largest <= 1
        assert found.end_to_end is not None


@pytest.mark.parametrize("kind", ["transformer"])
def test_an_op_that_the_fast_engine_fails_at_is_run_by_esp_ppq(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_export(tmp_path, kind, "esp32s3")

    def checked(engine: QuantizationEngine) -> Any:
        return check_model(
            made.file,
            made.chip,
            made.graph,
            made.layouts,
            made.batches,
            samples=1,
            engine=engine,
        ).integers

    wanted = checked(ReferenceEngine())
    assert wanted.end_to_end.outputs > 0
    assert checked(FastEngine()) == wanted

    def failing(*_: Any, **__: Any) -> Any:
        raise TypeError("no implementation for the types")

    monkeypatch.setattr(OpRunner, "run", failing)
    engine = FastEngine()
    assert checked(engine) == wanted
    (record,) = engine.records
    assert record.part == "the chip check"
    assert record.reason == "TypeError: no implementation for the types"


class _Norm(torch.nn.Module):
    """A LayerNorm over channels: the exporter drops the transposes around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down = torch.nn.Conv2d(1, 28, 3, padding=1), torch.nn.Conv2d(28, 4, 3)
        self.norm = torch.nn.LayerNorm(28)
        self.norm.weight.data.uniform_(0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.down(x)  # type: ignore[no-any-return]


class _Spread(torch.nn.Module):
    """DepthToSpace, a bilinear Resize and a Div."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.pixel_shuffle(self.conv(x), 2)
        x = torch.nn.functional.interpolate(x, scale_factor=1.5, mode="bilinear")
        return x / (torch.sigmoid(x) + 0.5)


class _Pools(torch.nn.Module):
    """Averages over windows with padding in them, left out of the count in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 16, 3, padding=1)
        self.pool = torch.nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(torch.relu(self.conv(x)))  # type: ignore[no-any-return]


class _Slopes(torch.nn.Module):
    """A PReLU with a slope per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = torch.nn.Conv2d(1, 8, 3), torch.nn.PReLU(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4", "c"])
@pytest.mark.parametrize(
    ("network", "skipped"),
    [(_Norm, {"LayerNormalization"}), (_Spread, set()), (_Pools, set())],
)
def test_end_to_end_and_op_by_op_are_equal(
    network: type[torch.nn.Module],
    skipped: set[str],
    chip: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KINDS, "asked about", network)
    found = check(make_export(tmp_path, "asked about", chip)).integers
    assert {one.op_type for one in found.skipped} == skipped
    assert found.total.outputs > 1000
    assert (found.total.exact, found.total.largest) == (found.total.outputs, 0)
    assert found.end_to_end.outputs > 1000
    assert found.end_to_end.exact == found.end_to_end.outputs


def test_a_prelu_in_c_rounds_its_negatives_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "slopes", _Slopes)
    for chip, share in (("esp32s3", 100.0), ("c", 90.0)):
        found = check(make_export(tmp_path / chip, "slopes", chip)).integers
        (prelu,) = (one.agreement for one in found.ops if one.op_type == "PRelu")
        assert prelu.largest == (chip == "c")
        assert (prelu.percent == 100.0) is (share == 100.0)


def test_channels_beyond_a_multiple_have_a_wide_accumulator() -> None:
    from espdl_quantize.chip._model import ChipModel, Node
    from espdl_quantize.chip.integers._call import Call

    image = FileTensor("a", "int8", (1, 1, 1, 1), (0,))
    node = Node("op", "Conv", ("a",), ("b",), {"quant_type": "S8"})
    model = ChipModel((node,), {}, {"a": image}, ("a",), ("b",))
    for chip, channels, overflows in (
        ("esp32s3", 16, 16),
        ("esp32s3", 20, 16),
        ("esp32s3", 15, 0),
        ("c", 20, 0),
    ):
        call = Call(model, node, chip_facts(chip), [None])
        call.count_overflows(torch.full((1, 1, 1, channels), 1 << 19))
        assert call.overflows == overflows, (chip, channels)
