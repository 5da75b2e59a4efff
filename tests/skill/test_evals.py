"""The behaviour cases, by a scripted agent that follows the hints; and each command of SKILL.md."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.gate import STAGES, GateContext, GateOptions, examine
from espdl_quantize.iteration import captured
from espdl_quantize.ppq import probe_target
from espdl_quantize.record import read_history
from espdl_quantize.record.files import LOG
from espdl_quantize.report import lint
from espdl_quantize.setting import (
    canonical,
    enabled_passes,
    load_setting,
    parse_setting,
    resolve,
)
from espdl_quantize.skill import skill_source
from espdl_quantize.tuning import Budget, RecordedBackend, TuneOptions, tune
from tests.contracts import CONFIG, EVALUATE, write_contract

ROOT = Path(__file__).parent.parent.parent
SKILL = skill_source()
RECORDED = ROOT / "benchmarks/recorded/fashion_mnist_esp32s3.zip"
MAIN = (SKILL / "SKILL.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```\n(.*?)^```", MAIN, flags=re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
CONTRACT = ("user_quant.py", "final", "verify")
"""What marks a command that would execute a contract, which a recording has not."""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
    )


def compare(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = str(SKILL / "scripts/compare_iterations.py")
    return run(folder, script, "--output-dir", "outputs", *options)


def replay(folder: Path, iterations: int) -> None:
    """Run as many iterations as a user's machine would, from the recording."""
    backend = RecordedBackend(RECORDED)
    outputs = folder / "outputs"
    tune(backend, outputs, TuneOptions(Budget(iterations)), clock=backend.clock)
    # What tune writes at its end is the agent's to do.
    shutil.rmtree(folder / "outputs/best")
    for name in ("final_report.md", "report.html"):
        (folder / "outputs" / name).unlink()


@pytest.mark.parametrize("budget", [2, 4])
def test_the_loop_keeps_to_a_budget_and_ends_in_order(tmp_path: Path, budget: int) -> None:
    """Cases 1 and 2: so many iterations, the hint's settings, and then the ending command."""
    replay(tmp_path, 1)
    for number in range(1, budget):
        told = compare(tmp_path, "--write-next", "next.json")
        assert told.returncode == 0, told.stderr
        assert f"iter_{number} " in told.stdout.partition("to run it:")[2].replace("\n", " ")
        wanted = load_setting(tmp_path / "next.json")
        replay(tmp_path, 1)
        ran = load_setting(tmp_path / f"outputs/iter_{number}/setting.json")
        assert canonical(ran) == canonical(wanted)
    last = compare(tmp_path)
    line = last.stdout.strip().splitlines()[-1].removeprefix("to end the search here: ")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    ended = subprocess.run(
        line, shell=True, cwd=tmp_path, capture_output=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert ended.returncode == 0, ended.stderr
    outputs = tmp_path / "outputs"
    assert {path.name for path in outputs.glob("iter_*")} == {f"iter_{n}" for n in range(budget)}
    assert (outputs / "best").is_dir()
    assert (outputs / "final_report.md").is_file()


def test_phase_5_says_that_the_setting_is_the_agents(tmp_path: Path) -> None:
    """Case 4: nothing to write, what is untried, and no end without being forced."""
    replay(tmp_path, 9)
    told = compare(tmp_path, "--write-next", "next.json")
    hint = json.loads((tmp_path / "outputs/comparison.json").read_text())["next_step_hint"]
    assert hint["phase"] == "phase-5-agent-driven"
    assert told.returncode == 1
    assert not (tmp_path / "next.json").exists()
    assert compare(tmp_path, "--finalize").returncode == 1
    assert compare(tmp_path, "--finalize", "--force-finalize").returncode == 0


def test_a_budget_of_time_is_kept_and_best_says_what_it_costs(tmp_path: Path) -> None:
    """Case 3: one tune with --time, a better best, and whether the chip pays for it."""
    done = run(
        tmp_path,
        *("-m", "espdl_quantize", "tune", "--recorded", str(RECORDED)),
        *("--output-dir", "outputs", "--time", "5m"),
    )
    assert done.returncode == 0, done.stderr
    history = read_history(tmp_path / "outputs")
    assert sum(record.elapsed_seconds or 0 for record in history.iterations) <= 300
    first, best = history.get(0), history.best
    assert first is not None and best is not None
    assert first.value is not None and best.value is not None and best.value > first.value
    report = (tmp_path / "outputs/final_report.md").read_text()
    assert (tmp_path / "outputs/best").is_dir()
    assert f"iter_{best.id}" in report and "budget" in report
    assert re.search(r"on the chip|affects inference", report)


def test_two_changes_in_phase_3_are_refused_and_one_is_not(tmp_path: Path) -> None:
    """Case 5: the rule is named, with what to do; each alone keeps it."""
    replay(tmp_path, 5)
    best = read_history(tmp_path / "outputs").best
    assert best is not None and best.setting is not None
    base = {**best.setting.model_dump(exclude_none=True), "iteration_id": 5}
    both: dict[str, Any] = {
        "equalization": {"enabled": True, "opt_level": 2},
        "bias_correct": {"enabled": True},
    }
    (tmp_path / "next.json").write_text(json.dumps({**base, **both}))
    refused = run(tmp_path, "-m", "espdl_quantize", "lint", "next.json", "--output-dir", "outputs")
    assert refused.returncode == 1
    assert "one-change" in refused.stdout and "->" in refused.stdout
    for name, section in both.items():
        assert lint(tmp_path / "outputs", parse_setting({**base, name: section})) == []
    bare = parse_setting({**base, "equalization": {"enabled": True}})
    told = resolve(bare, probe_target("esp32p4")).warnings
    assert any("opt_level is not given" in warning for warning in told)


def test_a_score_that_nobody_expects_ends_it_before_it_begins(tmp_path: Path) -> None:
    """Case 6: check gives the float score, and doubts it; nothing was run, nothing was changed."""
    evaluate = EVALUATE.replace("agreement(quant_graph, 256)", "10.0") + "  # of shuffled labels"
    evaluate = evaluate.replace("return", "agreement(quant_graph, 8)\n    return")
    config = CONFIG | {"metric_unit": "percent", "target_metric": 92.0}
    contract = write_contract(tmp_path, config=config, evaluate=evaluate)
    before = contract.read_bytes()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with captured(scratch / LOG):
        report = examine(GateContext(contract, scratch, GateOptions()), STAGES)
    assert report.facts["float_value"] == 10.0
    doubted = [each for each in report.findings if each.code == "score_at_chance"]
    assert doubted and doubted[0].hint
    assert contract.read_bytes() == before
    assert not (tmp_path / "outputs").exists()


def test_lsq_is_switched_off_and_tqt_named(tmp_path: Path) -> None:
    """Case 7: why it cannot train here, and what does, before and when it runs."""
    setting = parse_setting({"iteration_id": 1, "lsq_optimization": {"enabled": True}})
    resolved = resolve(setting, probe_target("esp32p4"))
    assert not list(enabled_passes(resolved.setting))
    told = " ".join(resolved.warnings)
    assert "cannot train a scale" in told and "tqt_optimization" in told
    replay(tmp_path, 1)
    off = [each for each in lint(tmp_path / "outputs", setting) if each.rule == "pass-off"]
    assert "lsq_optimization" in off[0].found and "tqt_optimization" in off[0].hint


@pytest.mark.slow
def test_each_command_of_the_skill_runs_on_the_recorded_search(tmp_path: Path) -> None:
    assert len(COMMANDS) >= 10
    replay(tmp_path, 4)
    for line in COMMANDS:
        words = [word.replace("$SKILL_DIR", str(SKILL)) for word in shlex.split(line)]
        words = words[1:] if words[0] == "python" else ["-m", "espdl_quantize", *words[1:]]
        if "tune" in words:
            words = [word for word in words if word != "user_quant.py"]
            words += ["--recorded", str(RECORDED), "--dry-run"]
        done = run(tmp_path, *words)
        if any(mark in words for mark in CONTRACT) or "cost" in words:
            # There is no contract and no model in a recording, and that is all that is missing.
            assert done.returncode not in (2, 130), (line, done.stderr)
            assert "Traceback" not in done.stderr
        else:
            assert done.returncode == 0, (line, done.stderr)
