"""The skill's scripts as an agent runs them, and what comparisons tell it to paste."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from espdl_quantize.skill import install as install_skill
from espdl_quantize.skill import place, skill_source
from tests.contracts import write_contract
from tests.report.test_compare import in_phase_5
from tests.search.made_runs import SWEEP, swept, write_history

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = skill_source() / "scripts"
Done = subprocess.CompletedProcess[str]


def script(name: str, *arguments: object, python: str = sys.executable, **env: str) -> Done:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "COLUMNS": "200", **env}
    return subprocess.run(
        [python, str(SCRIPTS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )


def test_a_contract_is_checked_with_the_words_of_the_flags(tmp_path: Path) -> None:
    done = script(
        "run_iteration.py",
        *("--user-quant", write_contract(tmp_path)),
        *("--output-dir", tmp_path / "outputs/contract_check"),
        *("--check-contract", "--json", "--no-score"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--user-quant", "none.py", "--output-dir", "o/iter_0", "--baseline"], 3, "none.py"),
        (["--user-quant", "none.py", "--baseline"], 2, "--output-dir is missing"),
        (["--user-quant", "none.py", "--output-dir", "o"], 2, "--check-contract"),
        (["--user-quant", "n.py", "--output-dir", "o", "--baseline", "--bogus"], 2, "--bogus"),
    ],
)
def test_exit_codes_are_the_commands(
    tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    done = script("run_iteration.py", *arguments, "--json")
    assert done.returncode == code
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == code
    assert told in error["message"]


def test_comparing_says_the_next_step_and_writes_it(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    next_file = tmp_path / "next.json"
    done = script("compare_iterations.py", "--output-dir", tmp_path, "--write-next", next_file)
    assert done.returncode == 0, done.stderr
    assert "phase: phase-3-residual (one lever at a time), lever 3a-1" in done.stdout
    hint = json.loads((tmp_path / "comparison.json").read_text())["next_step_hint"]
    assert json.loads(next_file.read_text()) == hint["setting"]
    short = script("compare_iterations.py", "--output-dir", tmp_path, "--json", "--last", 2)
    told = json.loads(short.stdout)
    assert [row["iteration_id"] for row in told["iterations"]] == [2, 3]
    assert len(json.loads((tmp_path / "comparison.json").read_text())["iterations"]) == 4


@pytest.mark.parametrize("is_open", [False, True])
def test_the_line_that_ends_the_search_works_when_pasted(
    tmp_path: Path, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the command is not on the path, the line has to do without it.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    outputs = tmp_path / "it's a folder; with $signs"
    in_phase_5(outputs) if is_open else write_history(outputs, swept(*SWEEP))
    refused = script("compare_iterations.py", "--output-dir", outputs, "--finalize")
    assert refused.returncode == int(is_open)
    assert (outputs / "best").exists() is not is_open
    done = script("compare_iterations.py", "--output-dir", outputs)
    line = done.stdout.strip().splitlines()[-1].removeprefix("to end the search here: ")
    known = json.loads((outputs / "comparison.json").read_text())["early_finalize_command"]
    assert line == known
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    shell = subprocess.run(line, shell=True, capture_output=True, text=True, env=environment)
    assert shell.returncode == 0, shell.stderr
    for name in ("best/setting.json", "final_report.md", "report.html"):
        assert (outputs / name).is_file()


def test_without_the_package_a_copy_says_which_line_mends_it(tmp_path: Path) -> None:
    (done,) = install_skill([place("agents", tmp_path)])
    copy = done.place.folder / "scripts/compare_iterations.py"
    # -S leaves out site-packages, and -E the path of the checkout.
    told = subprocess.run(
        [sys.executable, "-E", "-S", str(copy), "--output-dir", "o", "--json"],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 6
    error = json.loads(told.stdout)["error"]
    assert error["exit_code"] == 6
    assert f"-m pip install {ROOT}" in error["hint"]
    assert "Traceback" not in told.stderr
    assert not list(tmp_path.rglob("__pycache__"))
