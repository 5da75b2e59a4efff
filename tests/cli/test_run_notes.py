"""What ``run`` says beside its result."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from espdl_quantize.cli import _backend
from espdl_quantize.cli.run import print_summary
from espdl_quantize.record import IterationRecord, LayerError, read_record
from espdl_quantize.setting import baseline
from tests.cli.conftest import Command
from tests.contracts import write_contract
from tests.search.made_runs import run, write_run


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IterationRecord:
    """Stands in for an iteration; holds what its index says."""
    row = run(0, 0.5)
    write_run(tmp_path / "made", row, model_name="net")
    record = read_record(tmp_path / "made/iter_0")
    facts = SimpleNamespace(target_chip=record.target_chip)
    backend = SimpleNamespace(run=lambda *_: record, facts=facts)
    monkeypatch.setattr(_backend, "backend_of", lambda *_, **__: nullcontext(backend))
    write_contract(tmp_path)
    (tmp_path / "my.json").write_text(json.dumps({**baseline(1).model_dump(exclude_none=True)}))
    return record


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("outputs/trial", "note: 'trial' is not named iter_<N>"),
        ("outputs/iter_01", "note: 'iter_01' is not named iter_<N>"),
        ("outputs/iter_3", "note: the setting says iteration_id 1; this is iteration 3"),
        ("outputs/iter_1", ""),
    ],
)
def test_what_the_folders_name_means_is_told(
    command: Command, made: IterationRecord, folder: str, told: str, as_json: list[str]
) -> None:
    arguments = ["run", "user_quant.py", "--setting", "my.json", "--output-dir", folder]
    done = command(*arguments, *as_json)
    assert done.returncode == 0
    assert done.stderr.strip().startswith(told)
    assert bool(done.stderr.strip()) == bool(told)
    if as_json:
        json.loads(done.stdout)


def test_a_baseline_needs_no_number(command: Command, made: IterationRecord) -> None:
    done = command("run", "user_quant.py", "--baseline", "--output-dir", "outputs/iter_5")
    assert done.stderr == ""


def test_nothing_is_left_to_gain(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, made: IterationRecord
) -> None:
    for value, lossless in ((0.82, True), (0.9, True), (0.5, False)):
        print_summary(replace(made, value=value), tmp_path)
        assert ("nothing is left to gain" in capfd.readouterr().out) is lossless


def test_no_op_name_is_cut_off(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    made: IterationRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    name = "/blocks/blocks.0/" + "conv_" * 15 + "end"
    print_summary(replace(made, top_5_error_layers=(LayerError(name, 0.1),)), tmp_path)
    out = capfd.readouterr().out
    assert "…" not in out
    lines = [line.split("│")[1].strip() for line in out.splitlines() if line.count("│") >= 2]
    assert name in "".join(lines)


def test_a_comparison_is_no_setting_and_says_where_the_setting_is(
    command: Command, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    write_run(outputs, run(0, 0.5))
    assert command("compare").returncode == 0
    done = command("lint", "outputs/comparison.json")
    assert done.returncode == 4
    assert "is a comparison, no setting" in done.stderr
    assert "next_step_hint.setting" in done.stderr
    assert "--write-next" in done.stderr
    assert command("compare", "--write-next", "next.json").returncode == 0
    assert command("lint", "next.json").stdout == "the setting keeps every rule\n"
    write_run(outputs, run(1, 0.9, target=0.8))
    assert command("compare").returncode == 0
    done = command("lint", "outputs/comparison.json")
    assert "its phase is phase-4-final-report" in done.stderr
