"""What boards measured corrects the costs of a folder; what is no measurement does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from espdl_quantize.chip import cost_of
from espdl_quantize.chip.cost import calibration_of, keep_costs
from espdl_quantize.record import LayerTime, Measurement, read_history, write_measurement
from espdl_quantize.record.files import CHIP_COST
from tests.chip.made import Export, make_export
from tests.search.made_runs import known, make, run, write_run

CHIP = "esp32s3"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return make_export(tmp_path_factory.mktemp("depthwise"), "depthwise", CHIP)


@pytest.fixture
def outputs(tmp_path: Path, exported: Export) -> Path:
    """Two iterations of the same file, whose costs nobody has looked at."""
    for row in (run(0, 0.5), run(1, 0.6, make(calib_algorithm="mse"))):
        folder = write_run(tmp_path, row, target_chip=CHIP)
        shutil.copyfile(exported.file, folder / "model.espdl")
    return tmp_path


def ms(outputs: Path, number: int) -> float:
    (row,) = [each for each in read_history(outputs).iterations if each.id == number]
    return known(known(row.cost).ms)


def measure(outputs: Path, number: int, milliseconds: float, **fields: object) -> list[str]:
    measured = Measurement(chip=CHIP, runs_us=(milliseconds * 1000,), loaded=True)
    write_measurement(outputs / f"iter_{number}", replace(measured, **fields))  # type: ignore[arg-type]
    return keep_costs(outputs, again=True)


def test_an_old_folder_gets_its_costs(outputs: Path, exported: Export) -> None:
    (outputs / "iter_1/model.espdl").write_bytes(b"EDL2 cut off")
    notes = keep_costs(outputs)
    predicted = cost_of(exported.file, CHIP)
    assert ms(outputs, 0) == pytest.approx(known(predicted.latency.milliseconds))
    assert len(notes) == 1
    assert "what iter_1 costs on the chip is not known" in notes[0]
    assert not (outputs / "iter_1" / CHIP_COST).exists()
    # What is known is not computed again.
    (outputs / "iter_0" / CHIP_COST).write_text('{"time": 1.0, "chip": "esp32s3"}')
    keep_costs(outputs)
    assert json.loads((outputs / "iter_0" / CHIP_COST).read_text())["time"] == 1.0


def test_layers_say_what_16_bits_would_take(outputs: Path) -> None:
    keep_costs(outputs)
    cost = known(read_history(outputs).iterations[0].cost)
    convolutions = [layer for layer in cost.layers if layer.op_type == "Conv"]
    assert convolutions
    for layer in convolutions:
        assert known(layer.time_at_16_bits) > known(layer.time)
    assert cost.with_wide({layer.name for layer in cost.layers}) > known(cost.time)  # type: ignore[operator]


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.9])
def test_a_board_rescales_all_iterations(outputs: Path, factor: float) -> None:
    keep_costs(outputs)
    before = ms(outputs, 0)
    measure(outputs, 1, factor * before)
    for number in (0, 1):
        assert ms(outputs, number) == pytest.approx(factor * before, rel=0.03)
    latency = known(read_history(outputs).iterations[0].cost).latency
    assert latency.source == "calibrated on your board"
    assert known(latency.residual) < 0.05
    assert known(latency.low) < known(latency.milliseconds) < known(latency.high)


def test_layers_of_a_log_tell_the_kinds_of_work_apart(outputs: Path) -> None:
    keep_costs(outputs)
    cost = known(read_history(outputs).iterations[0].cost)
    layers = tuple(
        LayerTime(layer.name, layer.op_type, 1000 * known(layer.time) * (3 if number == 0 else 1))
        for number, layer in enumerate(cost.layers)
    )
    total = sum(layer.us for layer in layers) / 1000
    measure(outputs, 0, total, layers=layers)
    after = known(read_history(outputs).iterations[0].cost)
    assert known(after.ms) == pytest.approx(total, rel=0.1)
    assert known(after.layers[0].time) / known(cost.layers[0].time) > 1.2


BAD: dict[str, tuple[float, dict[str, object], str]] = {
    "far too slow": (50.0, {}, "such a difference"),
    "far too fast": (1e-6, {}, "such a difference"),
    "another chip": (1.5, {"chip": "esp32p4"}, "it is of esp32p4"),
    "another model": (1.5, {"model_sha256": "0" * 64}, "of another model"),
    "a failed test": (1.5, {"test": "failed"}, "could not load, end or compute"),
    "a crash": (1.5, {"complete": False}, "could not load, end or compute"),
    "no time": (0.0, {}, "no time"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_log_poisons_nothing(outputs: Path, case: str) -> None:
    factor, fields, reason = BAD[case]
    keep_costs(outputs)
    before = ms(outputs, 0)
    notes = measure(outputs, 1, factor * before, **fields)
    assert ms(outputs, 0) == pytest.approx(before)
    assert any(reason in note and "iter_1" in note for note in notes), notes
    # A good log beside it counts all the same.
    measure(outputs, 0, 1.5 * before)
    assert ms(outputs, 0) == pytest.approx(1.5 * before, rel=0.05)


def test_odd_layers_are_left_out(outputs: Path) -> None:
    keep_costs(outputs)
    cost = known(read_history(outputs).iterations[0].cost)
    before = known(cost.ms)
    layers = [LayerTime(each.name, each.op_type, 1000 * known(each.time)) for each in cost.layers]
    layers[0] = replace(layers[0], us=layers[0].us / 1e6)
    layers.append(LayerTime("nothing of this model", "Conv", 1.0))
    measure(outputs, 0, before, layers=tuple(layers))
    assert ms(outputs, 0) == pytest.approx(before, rel=0.05)
    foreign = tuple(LayerTime(f"layer {number}", "Conv", 100.0) for number in range(50))
    measure(outputs, 0, before, layers=foreign)
    assert ms(outputs, 0) == pytest.approx(before, rel=0.05)


def test_boards_and_flash_modes_are_kept_apart(outputs: Path) -> None:
    keep_costs(outputs)
    before = ms(outputs, 0)
    measure(outputs, 0, 2 * before, board="kit A")
    measure(outputs, 1, 1.2 * before, board="kit B", weights_in_flash=True)
    history = read_history(outputs)
    calibration = calibration_of(history, CHIP)
    assert not calibration.deployment.weights_in_flash
    assert known(calibration.constants).source == "calibrated on your board (kit A)"
    assert ms(outputs, 0) == pytest.approx(2 * before, rel=0.05)
    # Alone, the one with its weights in flash counts.
    (outputs / "iter_0/device.json").unlink()
    keep_costs(outputs, again=True)
    cost = known(read_history(outputs).iterations[0].cost)
    assert cost.latency.source == "calibrated on your board (kit B, its weights in flash)"
    assert known(cost.ms) == pytest.approx(1.2 * before, rel=0.05)
    assert cost.ram.weights_copied == 0


def test_a_log_gives_milliseconds_to_a_chip_without_any(tmp_path: Path) -> None:
    exported = make_export(tmp_path / "made", "depthwise", "c")
    outputs = tmp_path / "outputs"
    folder = write_run(outputs, run(0, 0.5), target_chip="c")
    shutil.copyfile(exported.file, folder / "model.espdl")
    keep_costs(outputs)
    cost = known(read_history(outputs).iterations[0].cost)
    assert cost.ms is None
    assert known(cost.time) > 0
    measured = Measurement(chip="esp32c3", runs_us=(1000 * 2 * known(cost.time),), loaded=True)
    write_measurement(folder, measured)
    keep_costs(outputs, again=True)
    cost = known(read_history(outputs).iterations[0].cost)
    assert cost.chip == "esp32c3"
    assert cost.ms is not None
