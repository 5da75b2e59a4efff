"""The project: what is in it, that its program compiles and runs, and what is refused."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from espdl_quantize.chip import ChipModel, Node, Tensor, chip_facts, read_model
from espdl_quantize.chip.cost import MemoryPlan, parameter_bytes, plan_memory
from espdl_quantize.cli import app
from espdl_quantize.core import EspdlQuantizeError
from espdl_quantize.deploy import ProjectOptions, board_of, parse_log
from espdl_quantize.deploy.header import c_string, header
from espdl_quantize.ppq import target_names
from espdl_quantize.report import compare, deploy

STUB = Path(__file__).parent / "stub"
GXX = shutil.which("g++")
needs_compiler = pytest.mark.skipif(GXX is None, reason="no C++ compiler (g++) on this machine")


def built(project: Path) -> Path:
    """Compile main.cpp against the stub, with warnings as errors."""
    program = project / "program"
    done = subprocess.run(
        [
            *(str(GXX), "-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{STUB}", "-o"),
            *(str(program), str(project / "main/main.cpp"), str(STUB / "board.cpp")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return program


def output_of(program: Path, *faults: str) -> str:
    environment = {**os.environ, **dict.fromkeys(faults, "1")}
    return subprocess.run([program], capture_output=True, text=True, env=environment).stdout


def edit_index(outputs: Path, **fields: Any) -> None:
    file = outputs / "iter_0/iteration_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_what_is_in_it(outputs: Path, tmp_path: Path) -> None:
    written = deploy(outputs, tmp_path / "board")
    project = written.folder
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert files == {
        *("CMakeLists.txt", "README.md", "partitions.csv", "sdkconfig.defaults", ".gitignore"),
        *("main/CMakeLists.txt", "main/idf_component.yml", "main/main.cpp", "main/model_io.h"),
        "main/model.espdl",
    }
    model = (project / "main/model.espdl").read_bytes()
    assert model == (outputs / "iter_0/model_test.espdl").read_bytes()
    assert 'espressif/esp-dl: "==3.3.9"' in (project / "main/idf_component.yml").read_text()
    options = (project / "sdkconfig.defaults").read_text().splitlines()
    assert {'CONFIG_IDF_TARGET="esp32s3"', "CONFIG_SPIRAM=y", "CONFIG_SPIRAM_MODE_OCT=y"} <= {
        *options
    }
    assert len(options) == len(set(options))
    readme = (project / "README.md").read_text()
    commands = re.findall(r"```\n(.*?)```", readme, flags=re.DOTALL)[0].splitlines()
    assert len(commands) == 5
    assert "idf.py set-target esp32s3" in commands
    assert written.place == "rodata"
    assert written.notes == ()
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


def test_best_is_deployed_as_the_iteration_is(outputs: Path, tmp_path: Path) -> None:
    compare(outputs, write_best=True)
    headers = []
    for place, source in enumerate((outputs, outputs / "best", outputs / "iter_0")):
        deploy(source, tmp_path / f"board{place}")
        headers.append((tmp_path / f"board{place}/main/model_io.h").read_text())
    assert headers[0] == headers[1] == headers[2]
    assert "NHWC" in headers[0]


def test_a_large_model_gets_a_partition(outputs: Path, tmp_path: Path) -> None:
    from espdl_quantize.deploy import _project

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_project, "_RODATA", 1000)
        written = deploy(outputs, tmp_path / "board")
    assert written.place == "partition"
    name, kind, _, _, size = (
        (tmp_path / "board/partitions.csv").read_text().splitlines()[-1].split(", ")
    )
    assert (name, kind) == ("model", "data")
    assert int(size, 16) > (tmp_path / "board/main/model.espdl").stat().st_size
    assert int(size, 16) % 4096 == 0
    cmake = (tmp_path / "board/main/CMakeLists.txt").read_text()
    assert 'esptool_py_flash_to_partition(flash "model"' in cmake
    if GXX is not None:
        assert "stub: model, copies 1" in output_of(built(tmp_path / "board"))


@needs_compiler
def test_the_program_runs_and_its_log_is_read(outputs: Path, tmp_path: Path) -> None:
    deploy(outputs, tmp_path / "board")
    log = output_of(built(tmp_path / "board"))
    measured = parse_log(log)
    assert (measured.loaded, measured.test, measured.complete) == (True, "passed", True)
    assert measured.chip == "esp32s3"
    assert measured.iteration == 0
    assert measured.runs_us == (250.0,) * 10
    assert [(entry.op, entry.us) for entry in measured.layers] == [("/stem/Conv", 1500.0)]
    assert (measured.internal_bytes, measured.psram_bytes) == (10240, 204800)
    assert [(entry.name, entry.count, entry.differing) for entry in measured.outputs] == [
        ("boxes", 2, 0),
        ("scores of it", 4, 0),
    ]
    assert not measured.is_against_the_model
    card = json.loads((outputs / "iter_0/model_card.json").read_text())
    assert measured.model_sha256 == card["sha256"]


@needs_compiler
def test_a_board_that_computes_something_else(outputs: Path, tmp_path: Path) -> None:
    deploy(outputs, tmp_path / "board")
    measured = parse_log(output_of(built(tmp_path / "board"), "STUB_DIFFERS"))
    assert measured.test == "failed"
    assert measured.is_against_the_model
    assert measured.first_difference == (
        "1 of 4 numbers of 'scores of it' differ, the first at 2: recorded 7, the board has 5; "
        "the largest difference is 2"
    )
    assert (
        measured.problem == "output 'scores of it': it should be 7.0000000000 and is 5.0000000000 "
        "at [0, 2]"
    )


@needs_compiler
def test_a_model_that_does_not_load(outputs: Path, tmp_path: Path) -> None:
    deploy(outputs, tmp_path / "board")
    measured = parse_log(output_of(built(tmp_path / "board"), "STUB_UNSUPPORTED"))
    assert (measured.loaded, measured.test, measured.complete) == (False, None, True)
    assert measured.problem == "ESP-DL has no op 'Erf'"
    assert "the model does not load" in measured.sentence()


def test_without_test_values(outputs: Path, tmp_path: Path) -> None:
    (outputs / "iter_0/model_test.espdl").unlink()
    written = deploy(outputs, tmp_path / "board")
    assert not written.has_test_values
    assert any("cannot test the model" in note for note in written.notes)
    if GXX is not None:
        measured = parse_log(output_of(built(tmp_path / "board")))
        assert (measured.test, measured.complete) == (None, True)


CONVERT = r"""
#include <stdio.h>
#include "model_io.h"
int main(void)
{
    float value;
    int exponent;
    while (scanf("%f %d", &value, &exponent) == 2) {
        printf("%d %d %.9g\n", model_quantize_int8(value, exponent),
               model_quantize_int16(value, exponent), model_dequantize(77, exponent));
    }
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4"])
def test_the_header_quantizes_as_the_chip(tmp_path: Path, chip: str) -> None:
    import torch

    from espdl_quantize.chip.integers import to_integers

    hostile = 'a"b\\c??/\n*/ é \x1b'
    rounding = chip_facts(chip).rounding
    tensor = {"name": hostile, "dtype": "int8", "shape": [1, 2], "exponent": -7}
    card = {"sha256": "00", "model_name": hostile, "inputs": [tensor], "outputs": [tensor]}
    (tmp_path / "model_io.h").write_text(header(card, chip, rounding, {}))
    (tmp_path / "convert.c").write_text(CONVERT)
    done = subprocess.run(
        [
            *(str(shutil.which("gcc") or GXX), "-Wall", "-Wextra", "-Werror", "-trigraphs"),
            *("-Wno-unused-const-variable", "-Wno-unused-variable"),
            *("-o", str(tmp_path / "convert"), str(tmp_path / "convert.c"), "-lm"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    values = torch.cat([torch.randn(200) * 3, torch.arange(-40, 40) / 16, torch.tensor([1e30])])
    lines = "\n".join(f"{value!r} {-place % 9 - 8}" for place, value in enumerate(values.tolist()))
    printed = subprocess.run([tmp_path / "convert"], input=lines, capture_output=True, text=True)
    rows = [line.split() for line in printed.stdout.splitlines()]
    assert len(rows) == len(values)
    for place, (value, (narrow, wide, real)) in enumerate(zip(values, rows, strict=True)):
        exponent = -place % 9 - 8
        assert int(narrow) == int(to_integers(value, exponent, "int8", rounding))
        assert int(wide) == int(to_integers(value, exponent, "int16", rounding))
        assert float(real) == math.ldexp(77, exponent)


def test_the_version_of_esp_dl_is_that_of_the_model(outputs: Path, tmp_path: Path) -> None:
    def manifest(name: str, version: str | None = None) -> str:
        deploy(outputs, tmp_path / name, ProjectOptions(esp_dl=version))
        assert 'MODEL_ESP_DL "' in (tmp_path / name / "main/model_io.h").read_text()
        return (tmp_path / name / "main/idf_component.yml").read_text().splitlines()[1].strip()

    edit_index(outputs, esp_dl_version="3.3.2")
    assert manifest("recorded") == 'espressif/esp-dl: "==3.3.2"'
    assert manifest("named", "v3.4.0") == 'espressif/esp-dl: "==3.4.0"'
    edit_index(outputs, esp_dl_version="mine")
    with pytest.raises(EspdlQuantizeError, match="'mine' is no version"):
        deploy(outputs, tmp_path / "broken")


def test_a_name_is_a_c_string_whatever_it_holds() -> None:
    assert c_string('1"?\\') == '"1\\042\\077\\134"'
    assert c_string("\n0") == '"\\0120"'


def test_what_exists_is_not_overwritten(outputs: Path, tmp_path: Path) -> None:
    taken = tmp_path / "board"
    taken.mkdir()
    deploy(outputs, taken)
    before = {path: path.read_bytes() for path in taken.rglob("*") if path.is_file()}
    done = CliRunner().invoke(app, ["deploy", str(outputs), "--project", str(taken)])
    assert isinstance(done.exception, EspdlQuantizeError)
    assert done.exception.exit_code == 7
    assert "nothing was written" in str(done.exception)
    assert {path: path.read_bytes() for path in taken.rglob("*") if path.is_file()} == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(EspdlQuantizeError, match="not an empty folder"):
        deploy(outputs, file)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(EspdlQuantizeError, match="not an empty folder"):
        deploy(outputs, link)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-100], "announces"),
        (lambda content: content[:7], "fewer than its header"),
        (lambda content: b"EDL9" + content[4:], "EDL9"),
        (lambda content: content[:4] + struct.pack("<I", 1) + content[8:], "encrypted"),
        (lambda content: content[:16] + b"\xff" * (len(content) - 16), "damaged"),
    ],
    ids=["cut off", "header", "version", "encrypted", "hostile"],
)
def test_a_bad_model_goes_into_no_project(
    outputs: Path, tmp_path: Path, change: Any, message: str
) -> None:
    for name in ("model_test.espdl", "model.espdl"):
        file = outputs / "iter_0" / name
        file.write_bytes(change(file.read_bytes()))
    with pytest.raises(EspdlQuantizeError, match=message):
        deploy(outputs, tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_damage_anywhere_is_told_or_deployed_whole(outputs: Path, tmp_path: Path) -> None:
    dice, names = random.Random(0), ("model_test.espdl", "model.espdl")
    whole = {name: (outputs / "iter_0" / name).read_bytes() for name in names}
    told = 0
    for number in range(60):
        for name, content in whole.items():
            damaged = bytearray(content)
            for _ in range(dice.choice((1, 4, 64))):
                damaged[dice.randrange(16, len(damaged))] = dice.randrange(256)
            (outputs / "iter_0" / name).write_bytes(damaged)
        project = tmp_path / f"board{number}"
        try:
            deploy(outputs, project)
        except EspdlQuantizeError as error:
            told += 1
            assert error.hint
            assert not project.exists()
        else:
            assert (project / "main/main.cpp").is_file()
    assert told > 10
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


def test_the_target_c_needs_a_chip(outputs: Path, tmp_path: Path) -> None:
    edit_index(outputs, target_chip="c")
    with pytest.raises(EspdlQuantizeError, match="chip: esp32, "):
        deploy(outputs, tmp_path / "board")
    with pytest.raises(EspdlQuantizeError, match="kernels round and pack otherwise"):
        deploy(outputs, tmp_path / "board", ProjectOptions(chip="esp32p4"))


def test_every_target_has_a_board() -> None:
    for target in target_names():
        board = board_of(target, "esp32c6" if target == "c" else None)
        assert board.takes_psram or not board.psram_mib
        # Chips of one family round alike; that is why a model may go from one to the other.
        assert chip_facts(board.chip).rounding == chip_facts(target).rounding
    with pytest.raises(EspdlQuantizeError, match="esp33"):
        board_of("esp32s3", "esp33")


def test_a_board_that_is_too_small(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from espdl_quantize.deploy import _project

    board = tmp_path / "board"
    small = deploy(outputs, board, ProjectOptions(psram_mib=0))
    assert not small.copies_parameters
    assert "CONFIG_SPIRAM=y" not in (board / "sdkconfig.defaults").read_text()
    assert "#define MODEL_COPY_PARAMETERS false" in (board / "main/model_io.h").read_text()
    assert any("stay in flash" in note for note in small.notes)

    with pytest.raises(EspdlQuantizeError, match="flash is 3 MiB"):
        deploy(outputs, tmp_path / "other", ProjectOptions(flash_mib=3))
    large = MemoryPlan(arena=3 << 20, internal=0, live=(), peak_layer=0, placements=())
    monkeypatch.setattr(_project, "plan_memory", lambda model: large)
    with pytest.raises(EspdlQuantizeError, match=r"needs 3072 KiB.*which has no PSRAM"):
        deploy(outputs, tmp_path / "other", ProjectOptions(psram_mib=0))
    with pytest.raises(EspdlQuantizeError, match="with 2 MiB of PSRAM"):
        deploy(outputs, tmp_path / "other", ProjectOptions(psram_mib=2))
    monkeypatch.setitem(_project._APP, 2, 2 << 20)
    with pytest.raises(EspdlQuantizeError, match="2 MiB of flash"):
        deploy(outputs, tmp_path / "other", ProjectOptions(flash_mib=2))
    assert not (tmp_path / "other").exists()


def test_memory_is_what_esp_dls_planner_lays_out() -> None:
    def tensor(name: str, *shape: int, dtype: str = "int8") -> Tensor:
        return Tensor(name, dtype, shape, (0,))

    values = {
        entry.name: entry
        for entry in (tensor("a", 1, 32, 32, 3), tensor("b", 1, 16, 16, 8), tensor("c", 2048))
    }
    model = ChipModel(
        nodes=(
            Node("conv", "Conv", ("a", "w"), ("b",), {}),
            Node("relu", "Relu", ("b",), ("c",), {}),
        ),
        constants={"w": tensor("w", 3, 3, 3, 8), "t": tensor("t", 5, dtype="int32")},
        values=values,
        inputs=("a",),
        outputs=("c",),
    )
    # The Conv needs its input beside its output, the Relu may write where it reads.
    assert plan_memory(model).total == 3072 + 2048
    assert parameter_bytes(model) == 224 + 32


def test_the_command(outputs: Path, tmp_path: Path) -> None:
    board = tmp_path / "board"
    done = CliRunner().invoke(app, ["deploy", str(outputs), "--project", str(board), "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["project"] == str(board)
    assert printed["has_test_values"] is True
    assert read_model(board / "main/model.espdl").test_outputs
    # A process of its own: esp-ppq greets on stdout when it is imported.
    done_alone = subprocess.run(
        [
            *(sys.executable, "-m", "espdl_quantize", "deploy", str(outputs / "iter_0")),
            *("--project", str(tmp_path / "alone"), "--json"),
        ],
        capture_output=True,
        text=True,
    )
    assert json.loads(done_alone.stdout)["chip"] == "esp32s3", done_alone.stderr
    with pytest.raises(EspdlQuantizeError, match="three numbers"):
        deploy(outputs, tmp_path / "x", ProjectOptions(esp_dl='3"\n'))
