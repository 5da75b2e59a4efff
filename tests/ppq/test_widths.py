"""Groups of ops that change their width together, and the noise that is measured for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.chip import WITH_16_BITS
from espdl_quantize.contract import Batch
from espdl_quantize.core import NoProgress
from espdl_quantize.ppq.measure.widths import MeasuredWidths, measure_widths
from espdl_quantize.record import OpGroup
from tests.chip.made import Export, make_export


def measured(export: Export) -> MeasuredWidths:
    batch = Batch.of(export.batches[-1].tensors[0][:8])
    return measure_widths(export.graph, batch, "cpu", WITH_16_BITS, {}, NoProgress())


def promoted(folder: Path, ops: tuple[str, ...], kind: str = "swish") -> Export:
    setting = {
        "calib_algorithm": "minmax",
        "dispatching_table": [{"op": op, "bits": 16} for op in ops],
        "int16_tables": True,
    }
    return make_export(folder, kind, "esp32s3", setting=setting)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("plain")
    return make_export(folder, "swish", "esp32s3", setting={"calib_algorithm": "minmax"})


@pytest.fixture(scope="module")
def widths(plain: Export) -> MeasuredWidths:
    return measured(plain)


def the_group(widths: MeasuredWidths, *ops: str) -> OpGroup:
    return next(group for group in widths.promotions if set(ops) == set(group.ops))


def test_an_activation_keeps_its_width_through_a_function(widths: MeasuredWidths) -> None:
    stem = next(group for group in widths.promotions if "/stem/Conv" in group.ops[:1])
    assert any(
        {"/stem/Conv", "/stem/Conv/Swish", "/body/Conv"} <= set(group.ops)
        for group in widths.promotions
    )
    assert stem.ops == ("/stem/Conv",)
    assert stem.cuts == ("/stem/Conv_output_0",)


def test_the_whole_network_is_a_group_and_has_no_noise(
    plain: Export, widths: MeasuredWidths
) -> None:
    whole = the_group(widths, *plain.graph.operations)
    assert whole.noise == pytest.approx(0, abs=1e-9)
    assert whole.cuts == ()


def test_the_graph_is_as_it_was(plain: Export, widths: MeasuredWidths) -> None:
    assert measured(plain) == widths


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_measured_group_is_what_real_16_bits_come_to(
    place: int, widths: MeasuredWidths, tmp_path: Path
) -> None:
    groups = sorted(widths.promotions, key=lambda group: group.noise)
    group = groups[place]
    real = measured(promoted(tmp_path, group.ops))
    # Power-of-two scales of 16 bits leave up to a thousandth of the noise of 8.
    assert real.noise == pytest.approx(group.noise, rel=0.1, abs=2e-3 * widths.noise)


def test_back_to_8_bits_costs_what_16_bits_won(widths: MeasuredWidths, tmp_path: Path) -> None:
    group = the_group(widths, "/body/Conv")
    real = measured(promoted(tmp_path, group.ops))
    (back,) = real.demotions
    assert back.ops == group.ops
    assert back.noise == pytest.approx(widths.noise, rel=0.25)


@pytest.mark.parametrize(
    ("kind", "never"), [("upsampled", "Resize"), ("gru", "GRU"), ("lstm", "LSTM")]
)
def test_what_the_chip_has_no_16_bits_for_is_in_no_group(
    kind: str, never: str, tmp_path: Path
) -> None:
    export = make_export(tmp_path, kind, "esp32s3")
    types: dict[str, Any] = {op.name: op.type for op in export.graph.operations.values()}
    groups = measured(export).promotions
    assert groups
    assert never in types.values()
    assert not {types[op] for group in groups for op in group.ops} & {never}


def test_a_relu_goes_with_its_conv(tmp_path: Path) -> None:
    export = make_export(tmp_path, "residual", "esp32s3")
    for group in measured(export).promotions:
        for op in group.ops:
            output = export.graph.operations[op].outputs[0]
            readers = [reader for reader in output.dest_ops if reader.type == "Relu"]
            if export.graph.operations[op].type == "Conv" and len(output.dest_ops) == 1:
                assert {reader.name for reader in readers} <= set(group.ops)


def test_of_a_large_network_fewer_groups_are_measured(
    plain: Export, widths: MeasuredWidths, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "espdl_quantize.ppq.measure.widths"
    monkeypatch.setattr(f"{module}.MOST_WORK", 0.0)
    monkeypatch.setattr(f"{module}.LEAST_GROUPS", 3)
    few = measured(plain)
    assert len(few.promotions) == 3 < len(widths.promotions)
    assert the_group(few, *plain.graph.operations)
    assert set(few.promotions) <= set(widths.promotions)
