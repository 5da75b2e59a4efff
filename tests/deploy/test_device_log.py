"""Logs of boards: three programs, torn lines, hostile names, and the iteration they belong to."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from espdl_quantize.cli import app
from espdl_quantize.core import EspdlQuantizeError
from espdl_quantize.deploy import parse_log, read_log
from espdl_quantize.record import Measurement, parse_measurement, read_history
from espdl_quantize.report import compare, record_log
from tests.search.made_runs import SWEEP, swept, write_history

LOGS = Path(__file__).parent / "logs"
SHA = "ab" * 32


def ours(*lines: str, sha: str = SHA, end: bool = True) -> str:
    begin = f"espdlq begin format=1 chip=esp32p4 esp_dl=3.3.9 iteration=2 sha256={sha}"
    return "\n".join([begin, *lines, *(["espdlq end"] if end else [])])


def test_the_profile_of_esp_dl() -> None:
    measured = read_log(LOGS / "esp_dl_profile.log")
    assert measured.chip == "esp32s3"
    assert measured.test == "passed"
    assert [(entry.op, entry.op_type, entry.us) for entry in measured.layers] == [
        ("/stem/Conv", "Conv", 1203.0),
        ("/odd | name", "LUT", 41.0),
        ("/head/Gemm", "Gemm", 96.0),
    ]
    assert measured.ms == pytest.approx(1.34)
    assert measured.internal_bytes == round(9.37 * 1024)
    assert measured.psram_bytes == round(11.61 * 1024)
    assert measured.flash_bytes is None
    assert measured.complete is None
    assert not measured.is_against_the_model


def test_the_latency_program_of_autoquant() -> None:
    measured = read_log(LOGS / "autoquant.log")
    assert measured.runs_us == (12000.0, 13000.0, 12000.0)
    assert measured.ms == 12.0
    assert measured.layers == ()


def test_the_last_start_that_ended_well_counts() -> None:
    log = "\n".join(
        [
            ours("espdlq run us=100", end=False),
            "Guru Meditation Error: Core  0 panic'ed (LoadProhibited).",
            ours("espdlq run us=200"),
            ours("espdlq run us=300", end=False),
        ]
    )
    assert parse_log(log).runs_us == (200.0,)
    crashed = parse_log("\n".join(log.splitlines()[:3]))
    assert crashed.complete is False
    assert crashed.is_against_the_model
    assert crashed.problem.startswith("the program crashed: Guru Meditation Error")
    assert "the log ends early" in crashed.sentence()


def test_lines_with_colours_time_stamps_and_other_ends() -> None:
    log = ours("espdlq load passed", "espdlq test passed", "espdlq run us=1500").replace(
        "\n", "\r\n"
    )
    stamped = "\n".join(f"[12:00:01] \x1b[0;32m{line}\x1b[0m" for line in log.splitlines())
    assert parse_log(stamped) == parse_log(log)
    assert parse_log(log).ms == 1.5


def test_hostile_content_stays_harmless() -> None:
    evil = "\x1b]0;owned\x07 <b>`x`\u202e\x00" + "n" * 5000
    measured = parse_log(
        ours(
            f"espdlq output count=4 differing=1 largest=1 first=0 expected=1 found=2 name={evil}",
            f"I (1) dl::Model: | {evil} | Conv | 12us |",
            "espdlq output count=1 differing=9 largest=nan name=more than there are",
            "espdlq run us=-5",
            "espdlq run us=inf",
            "espdlq run us=1e400",
            "espdlq memory internal=99999999999999999999 psram=-1 flash=\u0661",
            "espdlq run us=7",
        )
    )
    (output,) = measured.outputs
    assert len(output.name) <= 200
    assert output.name.isprintable()
    assert all(entry.op.isprintable() and len(entry.op) <= 200 for entry in measured.layers)
    assert measured.runs_us == (7.0,)
    assert measured.internal_bytes is measured.psram_bytes is measured.flash_bytes is None


def test_what_failed_once_has_not_passed() -> None:
    for lines in (
        ("espdlq test failed", "espdlq test passed"),
        ("espdlq test passed", "espdlq test failed"),
        ("espdlq test passed", "E (5) dl::Model: Test output y does not match", "Test Pass!"),
    ):
        assert parse_log(ours(*lines)).test == "failed"


def test_numbers_are_plain_and_times_above_zero() -> None:
    lines = [
        f"espdlq run us={each}" for each in ("0", "1_000", "\u0661\u0662", "0x10", "1e3", "7.5")
    ]
    assert parse_log(ours(*lines)).runs_us == (1000.0, 7.5)
    assert parse_log(ours("espdlq run us=1", sha=SHA.upper())).model_sha256 == SHA


def test_a_later_format_is_refused() -> None:
    with pytest.raises(EspdlQuantizeError, match="format '2', and this program reads format 1"):
        parse_log(ours("espdlq run us=1").replace("format=1", "format=2"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_log_that_windows_wrote(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "board.log"
    file.write_bytes(ours("espdlq test passed", "espdlq run us=1500").encode(encoding))
    measured = read_log(file)
    assert (measured.chip, measured.test, measured.ms) == ("esp32p4", "passed", 1.5)


def test_a_packed_log_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    lines = [f"espdlq run us={each}" for each in range(1, 9_000)]
    whole = gzip.compress(ours(*lines).encode())
    file = tmp_path / "board.log.gz"
    file.write_bytes(whole)
    assert read_log(file) == parse_log(ours(*lines))
    file.write_bytes(whole[: len(whole) * 3 // 4])
    assert 10 < len(read_log(file).runs_us) < 8_999
    assert read_log(file).complete is False
    for damaged in (whole[:2], whole[:2] + bytes(50)):
        file.write_bytes(damaged)
        with pytest.raises(EspdlQuantizeError, match=r"gzip|no line"):
            read_log(file)
    file.write_bytes(gzip.compress(bytes(17 << 20)))
    with pytest.raises(EspdlQuantizeError, match="more than 16 MiB"):
        read_log(file)


def test_a_log_is_bounded(tmp_path: Path) -> None:
    measured = parse_log(ours(*["espdlq run us=1"] * 20_000, *["| a | Conv | 1us |"] * 20_000))
    assert len(measured.runs_us) == len(measured.layers) == 10_000
    large = tmp_path / "large.log"
    with large.open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(EspdlQuantizeError, match="more than 16 MiB"):
        read_log(large)
    with pytest.raises(EspdlQuantizeError, match="no regular file"):
        read_log(tmp_path)
    with pytest.raises(EspdlQuantizeError, match="cannot be read"):
        read_log(tmp_path / "none.log")
    empty = tmp_path / "empty.log"
    empty.write_bytes(b"\xff\xfe nothing of it")
    with pytest.raises(EspdlQuantizeError, match="no line that this program knows"):
        read_log(empty)


WORDS = st.sampled_from(
    [
        *("espdlq ", "begin ", "output ", "run ", "us=", "count=3 ", "differing=", "|", " 12us "),
        *("name=", "\n", "\r", "\x1b[0m", "total", "1.00KB", "run:1 ms", "sha256=", "Test Pass!"),
        *("\x00", "9" * 30),
    ]
)


@given(st.lists(st.one_of(WORDS, st.text(max_size=5)), max_size=40).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        measured = parse_log(text)
    except EspdlQuantizeError:
        return
    measured.sentence()
    assert parse_measurement(json.loads(json.dumps(measured.as_json()))) == measured


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from([*Measurement().as_json(), "ms"])


@given(st.one_of(JSON, st.dictionaries(FIELDS, JSON)))
def test_any_device_json_is_read(value: Any) -> None:
    measured = parse_measurement(value)
    if measured is not None:
        measured.sentence()
        measured.summary()


def digest_of(outputs: Path, number: int) -> str:
    import hashlib

    return hashlib.sha256((outputs / f"iter_{number}/model.espdl").read_bytes()).hexdigest()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return Path(write_history(tmp_path / "outputs", swept(*SWEEP)))


def write_log(folder: Path, text: str) -> Path:
    file = folder / "board.log"
    file.write_text(text)
    return file


def test_it_is_stored_with_the_iteration_that_ran(made: Path, tmp_path: Path) -> None:
    lines = ("espdlq load passed", "espdlq test passed", "espdlq run us=12300")
    log = write_log(tmp_path, ours(*lines, sha=digest_of(made, 1)))
    done = CliRunner().invoke(app, ["device-log", str(log), "--output-dir", str(made), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["iteration"] == 1
    assert json.loads((made / "iter_1/device.json").read_text())["ms"] == 12.3
    history = read_history(made)
    row = next(entry for entry in history.iterations if entry.id == 1)
    assert row.device is not None
    assert row.device.test == "passed"
    result = compare(made)
    (compared,) = [
        entry for entry in result.comparison.to_json()["iterations"] if entry["iteration_id"] == 1
    ]
    assert compared["device"]["ms"] == 12.3
    assert any("measured on a board (esp32p4): 12.3 ms per run" in line for line in result.lines)


def test_the_reports_show_what_best_measured(made: Path, tmp_path: Path) -> None:
    record_log(made, write_log(tmp_path, "run:12 ms\nI (9) dl::Model: Test Pass!\n"))
    assert (made / "iter_2/device.json").is_file()
    compare(made, finalize=True, force_finalize=True)
    for name in ("final_report.md", "report.html"):
        text = (made / name).read_text()
        assert "Measured on a board" in text
        assert "12 ms per run" in text
        assert "That is no run on a chip" not in text


def test_a_log_of_another_model_or_chip_is_refused(made: Path, tmp_path: Path) -> None:
    other = write_log(tmp_path, ours("espdlq run us=5"))
    with pytest.raises(EspdlQuantizeError, match="not that of any iteration"):
        record_log(made, other)
    right = write_log(tmp_path, ours("espdlq run us=5", sha=digest_of(made, 1)))
    with pytest.raises(EspdlQuantizeError, match="not that of iter_2"):
        record_log(made, right, 2)
    with pytest.raises(EspdlQuantizeError, match="has no iter_77"):
        record_log(made, right, 77)
    foreign = write_log(tmp_path, "ESP-ROM:esp32s3-20210327\nrun:3 ms\n")
    with pytest.raises(EspdlQuantizeError, match="the log is of esp32s3"):
        record_log(made, foreign)
    assert not list(made.rglob("device.json"))


@pytest.mark.parametrize("torn", [SHA[:40], "", SHA.replace("a", "#"), SHA + "a"])
def test_a_torn_line_does_not_say_which_model_ran(torn: str, made: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path, ours("espdlq run us=5000", sha=torn))
    with pytest.raises(EspdlQuantizeError, match="is torn"):
        record_log(made, log)
    assert not list(made.rglob("device.json"))
    assert record_log(made, log, 1).iteration.id == 1
    assert json.loads((made / "iter_1/device.json").read_text())["model_sha256"] is None


def test_a_failed_test_is_told_and_ends_with_1(made: Path, tmp_path: Path) -> None:
    lines = (
        "espdlq test failed",
        "espdlq output count=10 differing=2 largest=3 first=4 expected=-5 found=-8 name=scores",
    )
    log = write_log(tmp_path, ours(*lines, sha=digest_of(made, 2)))
    done = CliRunner().invoke(app, ["device-log", str(log), "--output-dir", str(made)])
    assert done.exit_code == 1
    assert "2 of 10 numbers of 'scores' differ, the first at 4" in done.output


def test_a_broken_device_json_costs_no_history(made: Path) -> None:
    (made / "iter_2/device.json").write_text('{"ms": [], "layers": 7')
    (made / "iter_1/device.json").write_text("[]")
    history = read_history(made)
    assert {entry.id for entry in history.iterations} == {0, 1, 2, 3}
    assert [warning.kind for warning in history.warnings] == ["device", "device"]
    assert all(row.device is None for row in history.iterations)


def test_a_linked_iteration_is_not_written_to(made: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (made / "iter_2").rename(outside)
    (made / "iter_2").symlink_to(outside)
    with pytest.raises(EspdlQuantizeError):
        record_log(made, write_log(tmp_path, "run:12 ms\n"), 2)
    assert not (outside / "device.json").exists()
