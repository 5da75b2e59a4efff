"""Whatever somebody wrote into an output folder: read as data, bounded, and shown as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.cli.terminal import escape, printable
from espdl_quantize.core import (
    DEEPEST,
    LARGEST,
    EspdlQuantizeError,
    OutputFolderError,
    SettingError,
    load_json,
    read_json,
    write_json,
)
from espdl_quantize.record import read_history, staged
from espdl_quantize.report import compare
from espdl_quantize.setting import load_setting
from tests.search.made_runs import SWEEP, evidence, hot, swept, write_history

ESCAPES = "\x1b[2J\x1b]0;title\x07\x1b]52;c;aGk=\x07\x9b31m\r\u202e"
NASTY = f"a|b\n# head <script>alert(1)</script> `c` [x](javascript:1) ![i](//h/i) {ESCAPES}"


def huge(path: Path) -> None:
    """Write a file of 2 GB that takes no space."""
    with path.open("wb") as file:
        file.write(b"{")
        file.truncate(1 << 31)


def nested(depth: int) -> str:
    return '{"iteration_id": 0, "rationale": ' + "[" * depth + "]" * depth + "}"


def test_a_file_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    huge(tmp_path / "setting.json")
    assert (tmp_path / "setting.json").stat().st_size > LARGEST
    started = time.perf_counter()
    with pytest.raises(SettingError, match="MiB"):
        load_setting(tmp_path / "setting.json")
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("name", ["setting.json", "iteration_index.json", "metrics.json"])
@pytest.mark.parametrize("depth", [DEEPEST + 2, 300, 900, 100_000])
def test_nesting_is_bounded(name: str, depth: int, tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP), evidence())
    (tmp_path / "iter_1" / name).write_text(nested(depth))
    with pytest.raises(EspdlQuantizeError):
        read_json(tmp_path / "iter_1" / name)
    with pytest.raises(SettingError):
        load_setting(tmp_path / "iter_1" / name)
    result = compare(tmp_path, finalize=True, force_finalize=True)
    assert any("nested" in warning.text for warning in read_history(tmp_path).warnings)
    assert result.exit_code in (0, 1)


def test_what_is_as_deep_as_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[" * DEEPEST + "]" * DEEPEST)
    assert load_json(file)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "setting.json"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    with pytest.raises(OutputFolderError, match="cannot be read"):
        read_json(file)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "1" * 5000])
def test_numbers_beyond_a_float_are_no_parameters(number: str, tmp_path: Path) -> None:
    file = tmp_path / "setting.json"
    section = f'{{"enabled": true, "lr": {number}}}'
    file.write_text(f'{{"iteration_id": 0, "tqt_optimization": {section}}}')
    with pytest.raises(SettingError):
        load_setting(file)


def test_two_hundred_thousand_ops_are_read_in_seconds(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP), evidence())
    op = {"name": "x", "op_type": "Conv", "inputs": ["a"], "outputs": ["b"]}
    ops = ",".join(json.dumps(op | {"name": f"conv{number}"}) for number in range(200_000))
    best = read_history(tmp_path).best
    assert best is not None
    (best.folder / "simplified_ops.json").write_text(f'{{"count": 200000, "ops": [{ops}]}}')
    started = time.perf_counter()
    result = compare(tmp_path)
    assert result.exit_code == 0
    assert time.perf_counter() - started < 30


def test_names_in_files_lead_nowhere(tmp_path: Path) -> None:
    outputs, secret = tmp_path / "outputs", tmp_path / "secret.txt"
    secret.write_text("secret")
    write_history(outputs, swept(*SWEEP), evidence())
    before = sorted(tmp_path.iterdir())
    for folder in outputs.glob("iter_*"):
        index = json.loads((folder / "iteration_index.json").read_text())
        index |= {
            "model_path": "../../secret.txt",
            "iteration_id": "../../x",
            "model_name": "../../y",
            "contract_path": "../../secret.txt; touch /tmp/owned",
        }
        write_json(folder / "iteration_index.json", index)
        (folder / "model.espdl").unlink(missing_ok=True)
        (folder / "model.espdl").symlink_to(secret)
    compare(outputs, finalize=True, force_finalize=True)
    assert sorted(tmp_path.iterdir()) == before
    assert not (outputs / "best/model.espdl").exists()
    copied = [file for file in (outputs / "best").iterdir() if file.read_text() == "secret"]
    assert copied == []


@pytest.mark.parametrize("name", ["iter_..", "iter_-1", "iter_1e3", "iter_01", "iter_\u0663"])
def test_only_plain_numbers_name_an_iteration(name: str, tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP), evidence())
    count = len(read_history(tmp_path).iterations)
    (tmp_path / name).mkdir()
    assert len(read_history(tmp_path).iterations) == count


def test_links_of_the_user_are_carried_as_links(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret.txt", tmp_path / "outputs/iter_0"
    secret.write_text("secret")
    folder.mkdir(parents=True)
    (folder / "note.txt").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    with staged(folder) as staging:
        write_json(staging / "iteration_index.json", {"status": "ok"})
    assert (folder / "note.txt").is_symlink()
    assert (folder / "loop").is_symlink()


def spoiled(outputs: Path) -> None:
    """Write a history whose every text is hostile."""
    found = replace(evidence(hot_ops=(hot("Add", 0.25),)))
    write_history(outputs, swept(*SWEEP, target=0.9), found)
    for file in outputs.glob("iter_*/*.json"):
        content = file.read_text()
        for name in ("conv0", "Add", "tiny"):
            content = content.replace(f'"{name}', f'"{json.dumps(NASTY)[1:-1]}{name}')
        value: Any = json.loads(content)
        if file.name in ("iteration_index.json", "setting.json"):
            value["rationale"] = NASTY
        if file.name == "iteration_index.json":
            value["applied_setting_warnings"] = [NASTY]
            value["target_chip"] = NASTY
        write_json(file, value)


def test_reports_show_hostile_text_as_it_is(tmp_path: Path) -> None:
    spoiled(tmp_path)
    compare(tmp_path, finalize=True, force_finalize=True)
    markdown = (tmp_path / "final_report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    for text in (markdown, page):
        assert "alert(1)" in text
        assert "<script>alert" not in text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", _own(text))
    outside = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)\]\(javascript", outside)
    assert "\n# head" not in outside


def _own(page: str) -> str:
    """Leave plotly's own source out."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_no_escape_sequence_reaches_the_terminal(tmp_path: Path) -> None:
    spoiled(tmp_path)
    bad = tmp_path / "setting.json"
    bad.write_text(json.dumps({"iteration_id": 0, f"x{NASTY}": 1, "calib_algorithm": NASTY}))
    for arguments in (
        ["compare", "--output-dir", str(tmp_path)],
        ["compare", "--output-dir", str(tmp_path / NASTY.replace("/", ""))],
        ["lint", str(bad), "--output-dir", str(tmp_path)],
        ["run", "none.py", "--setting", str(bad), "--output-dir", str(tmp_path / "iter_9")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "espdl_quantize", *arguments],
            capture_output=True,
            check=False,
            env={**os.environ, "COLUMNS": "200", "TERM": "xterm", "FORCE_COLOR": ""},
        )
        told = (done.stdout + done.stderr).decode()
        assert told
        assert "Traceback" not in told
        for sequence in ("\x1b[2J", "\x1b]0;", "\x1b]52", "\x9b", "\u202e"):
            assert sequence not in told, (arguments, told)


def test_printable_spells_out_what_a_terminal_would_obey() -> None:
    assert printable("a\x1b[2Jb\n\tc\x9b") == "a\\x1b[2Jb\n\tc\\x9b"
    assert "\x1b" not in escape(NASTY)
    assert "\\[x]" in escape(NASTY)
