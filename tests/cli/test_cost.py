"""``cost`` on real exports, on a folder of iterations, and on files that are none."""

import json
import shutil
from pathlib import Path

import pytest

from espdl_quantize.chip import cost_of
from espdl_quantize.chip.cost import Constants, calibrate, shipped_constants
from tests.chip.made import Bytes, Export, make_export
from tests.cli.conftest import Command
from tests.search.made_runs import SWEEP, swept, write_history


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return make_export(tmp_path_factory.mktemp("residual"), "residual", "esp32p4")


@pytest.fixture(scope="module")
def depthwise(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return make_export(tmp_path_factory.mktemp("depthwise"), "depthwise", "esp32s3")


def test_what_a_model_costs(command: Command, residual: Export) -> None:
    done = command("cost", residual.file, "--target", "esp32p4")
    assert done.returncode == 0, done.stderr
    assert "nine in ten between" in done.stdout
    assert "its peak is at" in done.stdout
    assert "mostly" in done.stdout
    assert "S8: int8" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("in short: ")
    assert "ESP-PPQ" not in done.stdout
    cost = cost_of(residual.file, "esp32p4")
    assert cost.flash.file == residual.file.stat().st_size
    assert sum(cost.flash.weights.values()) + cost.flash.rest == cost.flash.file
    assert sum(layer.share for layer in cost.layers) == pytest.approx(1)
    latency = cost.latency
    assert latency.low is not None
    assert latency.high is not None
    assert latency.milliseconds is not None
    assert latency.low < latency.milliseconds < latency.high
    assert sum(layer.milliseconds or 0 for layer in cost.layers) == pytest.approx(
        latency.milliseconds
    )
    assert cost.ram.arena >= cost.ram.live == max(layer.live_bytes for layer in cost.layers)
    assert [layer.share for layer in cost.top(3)] == sorted(
        (layer.share for layer in cost.layers), reverse=True
    )[:3]


def test_json_says_the_same(command: Command, residual: Export) -> None:
    done = command("cost", residual.file, "--target", "esp32p4", "--json")
    told = json.loads(done.stdout)
    cost = cost_of(residual.file, "esp32p4").to_json()
    assert told == json.loads(json.dumps({"ok": True, "file": str(residual.file), **cost}))


def test_how_it_runs_changes_the_figures(command: Command, depthwise: Export) -> None:
    def told(*options: object) -> dict[str, dict[str, float]]:
        done = command("cost", depthwise.file, "--target", "esp32s3", "--json", *options)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    plain = told()
    assert told("--cores", 2)["latency"]["milliseconds"] <= plain["latency"]["milliseconds"]
    flash = told("--weights-in-flash")
    assert flash["latency"]["milliseconds"] > plain["latency"]["milliseconds"]
    assert flash["ram"]["weights_copied"] == 0 < plain["ram"]["weights_copied"]
    inside = told("--internal", 512)
    assert (inside["ram"]["arena"], inside["ram"]["internal"]) == (0, plain["ram"]["arena"])


def test_other_chips_have_shares_alone(command: Command, depthwise: Export) -> None:
    done = command("cost", depthwise.file, "--target", "esp32c3")
    assert done.returncode == 0, done.stderr
    assert "nothing is published for esp32c3" in done.stdout
    told = json.loads(command("cost", depthwise.file, "--target", "esp32c3", "--json").stdout)
    assert told["latency"]["milliseconds"] is None
    assert all(layer["milliseconds"] is None for layer in told["layers"])
    assert sum(layer["share"] for layer in told["layers"]) == pytest.approx(1)
    refused = command("cost", depthwise.file, "--target", "esp32c3", "--cores", 2)
    assert (refused.returncode, "has 1 core" in refused.stderr) == (2, True)


def test_a_board_calibrates(command: Command, depthwise: Export, tmp_path: Path) -> None:
    published = cost_of(depthwise.file, "esp32s3").latency.milliseconds
    assert published is not None
    board: Constants = calibrate(
        shipped_constants("esp32s3"), depthwise.file, "my board", milliseconds=1.4 * published
    )
    file = tmp_path / "board.json"
    file.write_text(json.dumps(board.to_json()))
    done = command("cost", depthwise.file, "--calibration", file, "--json")
    told = json.loads(done.stdout)
    assert told["chip"] == "esp32s3"
    assert told["latency"]["source"] == "calibrated on my board"
    assert told["latency"]["milliseconds"] == pytest.approx(1.4 * published, rel=0.05)
    assert told["latency"]["residual"] < 0.05
    assert "calibrated on my board; the residual there is" in told["notes"][0]
    wrong = command("cost", depthwise.file, "--calibration", file, "--target", "esp32p4")
    assert (wrong.returncode, "of esp32s3, the model is for esp32p4" in wrong.stderr) == (2, True)


def test_iterations_of_a_folder(command: Command, residual: Export, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    write_history(outputs, swept(*SWEEP, target=0.9))
    for number in (0, 1):
        shutil.copy(residual.file, outputs / f"iter_{number}" / "model.espdl")
    done = command("cost", outputs)
    assert done.returncode == 0, done.stderr
    assert "costs per iteration" in done.stdout
    assert "calib_algorithm kl -> mse" in done.stdout
    told = json.loads(command("cost", outputs, "--json").stdout)["iterations"]
    expected = cost_of(residual.file, "esp32p4")
    assert [entry["iteration"] for entry in told] == [0, 1, 2, 3]
    assert told[0]["latency"]["milliseconds"] == expected.latency.milliseconds
    assert told[1]["ram"]["arena"] == expected.ram.arena
    assert told[2]["problem"] == "the file has 5 bytes, fewer than its header"
    one = json.loads(command("cost", outputs / "iter_1", "--json").stdout)
    assert one["chip"] == "esp32p4"
    wrong = command("cost", outputs / "iter_1", "--target", "esp32s3")
    assert (wrong.returncode, "was exported for esp32p4" in wrong.stderr) == (2, True)


def test_what_is_wrong_is_said(command: Command, residual: Export, tmp_path: Path) -> None:
    def refused(content: bytes, *options: object) -> tuple[int, str]:
        file = tmp_path / "model.espdl"
        file.write_bytes(content)
        done = command("cost", file, *(options or ("--target", "esp32p4")))
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    whole = residual.file.read_bytes()
    code, told = refused(whole, "--json")
    assert (code, "does not say which chip" in told) == (2, True)
    code, told = refused(whole[:-100])
    assert (code, "the header announces" in told) == (1, True)
    code, told = refused(b"not a model at all, but long enough")
    assert (code, "expected b'EDL2'" in told) == (1, True)
    changed = Bytes(whole)
    changed.replace(b"\4\0\0\0Conv\0", b"\4\0\0\0Erf!\0")
    code, told = refused(changed.result())
    assert (code, "'Erf!', which ESP-DL 3.3 has no kernel for" in told) == (1, True)
    code, told = refused(whole, "--target", "esp8266")
    assert (code, "'esp8266' is no chip" in told) == (2, True)
    code, told = (lambda done: (done.returncode, done.stderr))(
        command("cost", tmp_path / "none.espdl", "--target", "esp32p4")
    )
    assert (code, "cannot be read" in told) == (7, True)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert command("cost", empty).returncode == 7


def test_no_damage_ends_in_a_traceback(command: Command, depthwise: Export, tmp_path: Path) -> None:
    whole = depthwise.file.read_bytes()
    file = tmp_path / "model.espdl"
    for place in range(16, len(whole), len(whole) // 60):
        file.write_bytes(
            whole[:place] + bytes(b ^ 0x55 for b in whole[place : place + 3]) + whole[place + 3 :]
        )
        done = command("cost", file, "--target", "esp32s3", "--json")
        assert "Traceback" not in done.stderr
        assert isinstance(json.loads(done.stdout), dict)
