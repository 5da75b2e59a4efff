from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import SHELL, EspdlQuantizeError, Json, OutputFolderError
from espdl_quantize.record import History
from espdl_quantize.report import MARKER, CompareResult, compare, lint
from espdl_quantize.report._commands import program
from espdl_quantize.report._comparison import outcome_of
from espdl_quantize.search import Proposal
from espdl_quantize.setting import Setting, load_setting, parse_setting
from tests.record.test_costs import cost, of, under
from tests.search.made_runs import (
    EQUALIZED,
    SWEEP,
    evidence,
    history,
    hot,
    make,
    run,
    swept,
    tqt,
    trained,
    write_history,
    write_run,
)

INT16 = [{"op": "conv0", "bits": 16}]


def losing(count: int = 5) -> tuple[tuple[float | None, Setting], ...]:
    return tuple(
        (0.5, trained(bias_correct={"enabled": True, "steps": 9 + i})) for i in range(count)
    )


def in_phase_5(outputs: Path, **fields: Any) -> Path:
    return write_history(outputs, swept(*SWEEP, rest=losing(), **fields), evidence())


def hint(result: CompareResult) -> Json:
    return result.comparison.next_step_hint.to_json()


def written(outputs: Path) -> set[str]:
    return {path.name for path in outputs.iterdir() if not path.name.startswith("iter_")}


def test_an_empty_folder_asks_for_a_baseline(tmp_path: Path) -> None:
    result = compare(tmp_path)
    assert result.exit_code == 0
    assert hint(result)["phase"] == "phase-1-baseline"
    assert "setting" not in hint(result)
    assert result.comparison.to_json()["best_iteration"] is None
    assert json.loads((tmp_path / "comparison.json").read_text()) == result.comparison.to_json()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputFolderError):
        compare(tmp_path / "nowhere")


def test_comparison_holds_every_key(tmp_path: Path) -> None:
    rest = ((0.8, trained(dispatching_table=INT16)), (None, trained(equalization=EQUALIZED)))
    write_history(tmp_path, swept(*SWEEP, rest=rest), evidence())
    content = compare(tmp_path).comparison.to_json()
    assert {
        "iterations",
        "best_iteration",
        "iteration_ranks",
        "runtime_cost_classification",
        "ranking_warnings",
        "early_finalize_command",
        "next_step_hint",
    } <= set(content)
    assert content["generated_by"] == "espdl-quantize"
    assert content["iteration_ranks"] == {"0": 5, "1": 4, "2": 2, "3": 3, "4": 1, "5": "-"}
    assert content["runtime_cost_classification"]["4"] == "Yes (int16 on 1 op: conv0)"
    assert content["runtime_cost_classification"]["0"] == "No"
    assert content["best_iteration"]["iteration_id"] == 4
    assert content["best_iteration"]["dir"] == str(tmp_path / "iter_4")
    assert content["iterations"][4]["delta_vs_prior_best"] == pytest.approx(0.1)
    assert [row["outcome"] for row in content["iterations"]] == [
        "first score",
        "new best",
        "new best",
        "worse",
        "new best",
        "failed",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_hint_carries_a_setting_that_is_ready_to_save(tmp_path: Path, count: int) -> None:
    write_history(tmp_path, swept(*SWEEP[:count]), evidence())
    content = hint(compare(tmp_path))
    setting = parse_setting(content["setting"])
    assert setting.iteration_id == count
    assert setting.rationale
    assert content["auto_finalized"] is False
    assert content["lever"] == ("3a-1" if count == 4 else None)


def test_a_failed_iteration_is_named_with_the_command_that_retries_it(tmp_path: Path) -> None:
    outputs = tmp_path / "my outputs"
    write_history(outputs, swept(*SWEEP, rest=((None, trained(equalization=EQUALIZED)),)))
    content = hint(compare(outputs))
    failed = content["failed_iterations"][0]
    assert shlex.split(failed["retry_command"]) == [
        *shlex.split(program()),
        "run",
        "user_quant.py",
        "--output-dir",
        str(outputs / "iter_4"),
        "--setting",
        str(outputs / "iter_4" / "setting.json"),
    ]
    assert "iter_4 failed" in content["advice"]
    assert failed["retry_command"] in content["advice"]


def test_a_command_names_the_interpreter_where_the_shell_would_find_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "my venv/bin", tmp_path / "bin"
    for folder in (here, elsewhere):
        folder.mkdir(parents=True)
        (folder / "espdl-quantize").write_text("#!/bin/sh\n")
        (folder / "espdl-quantize").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(here / "python"))
    module = [str(here / "python"), "-m", "espdl_quantize"]
    for path, wanted in (
        (here, ["espdl-quantize"]),
        (elsewhere, module),
        (tmp_path / "none", module),
    ):
        monkeypatch.setenv("PATH", str(path))
        assert shlex.split(program()) == wanted


@pytest.mark.parametrize(("is_open", "flags"), [(False, []), (True, ["--force-finalize"])])
def test_the_early_finalize_command_can_be_pasted(
    tmp_path: Path, is_open: bool, flags: Any
) -> None:
    outputs = tmp_path / "it's $HOME; here"
    in_phase_5(outputs) if is_open else write_history(outputs, swept(*SWEEP))
    result = compare(outputs)
    command = result.comparison.to_json()["early_finalize_command"]
    assert shlex.split(command) == [
        *shlex.split(program()),
        "compare",
        "--output-dir",
        str(outputs),
        "--finalize",
        *flags,
    ]
    assert result.lines[-1] == f"to end the search here: {command}"
    # What it says is enough.
    done = compare(outputs, finalize=True, force_finalize=bool(flags))
    assert done.report is not None


@pytest.mark.parametrize("past", [swept(*SWEEP), swept(*SWEEP, target=0.65)])
def test_an_ended_search_names_no_next_step(tmp_path: Path, past: History) -> None:
    write_history(tmp_path, past)
    for finalize in (True, False) if past.target else (True,):
        lines = compare(tmp_path, finalize=finalize).lines
        assert any(line.startswith("finalized (") for line in lines)
        words = "\n".join(lines)
        for word in ("next:", "to end", "phase:", "--finalize"):
            assert word not in words


def test_best_alone_of_an_ended_search(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP, target=0.65))
    words = "\n".join(compare(tmp_path, write_best=True).lines)
    assert "The search is over" in words
    assert "next:" not in words
    assert "to end" not in words


def test_a_near_miss_of_the_sweep_says_what_differs(tmp_path: Path) -> None:
    short = make(calib_algorithm="kl", tqt_optimization=tqt(steps=5))
    stacked = trained(bias_correct={"enabled": True})
    rows = (run(0, 0.5), run(1, 0.6, short), run(2, 0.6, stacked))
    write_history(tmp_path, history(*rows))
    result = compare(tmp_path)
    assert hint(result)["phase"] == "phase-2-calib-tqt-sweep"
    assert hint(result)["setting"]["calib_algorithm"] == "kl"
    assert hint(result)["notes"] == [
        "iter_1 does not cover the kl point of the sweep: tqt_optimization.steps is 5, the sweep "
        "has 500",
        "iter_2 does not cover the mse point of the sweep: it has bias_correct(block_size=4, "
        "steps=32), the sweep has not",
    ]
    assert f"note: {hint(result)['notes'][0]}" in result.lines
    # Once it is covered, there is nothing to say of it.
    write_run(tmp_path, run(3, 0.6, trained("kl")))
    assert [note[:6] for note in hint(compare(tmp_path))["notes"]] == ["iter_2"]


@pytest.mark.parametrize(("value", "direction"), [(0.82, "max"), (0.9, "max"), (0.5, "min")])
def test_a_baseline_as_good_as_the_float_model_leaves_nothing_to_gain(
    tmp_path: Path, value: Any, direction: str
) -> None:
    write_run(tmp_path, run(0, value, direction=direction))
    assert any("nothing is left to gain" in line for line in compare(tmp_path).lines)
    other = tmp_path / "other"
    write_run(other, run(0, 0.81 if direction == "max" else 0.83, direction=direction))
    assert hint(compare(other))["notes"] == []


def test_the_next_setting_is_written_and_runs(tmp_path: Path) -> None:
    outputs, file = tmp_path / "outputs", tmp_path / "new/next.json"
    outputs.mkdir()
    for number, value in enumerate(SWEEP):
        result = compare(outputs, write_next=file)
        assert any("next.json: the setting of iter_" in line for line in result.lines)
        (command,) = (line for line in result.lines if line.startswith("to run it: "))
        words = shlex.split(command)[-6:]
        assert words[:3] == ["run", "user_quant.py", "--output-dir"]
        assert words[3:] == [str(outputs / f"iter_{number}"), "--setting", str(file)]
        setting = load_setting(file)
        assert isinstance(result.decision, Proposal)
        assert setting == result.decision.setting
        assert lint(outputs, setting) == []
        write_run(outputs, run(number, value, setting), evidence())


def test_the_command_names_what_the_folder_is_for(tmp_path: Path) -> None:
    index = {"contract_path": "net.py", "esp_dl_version": "3.3.9"}
    write_run(tmp_path, run(0, 0.5), evidence(), **index)
    result = compare(tmp_path, write_next=tmp_path / "next.json")
    (command,) = (line for line in result.lines if line.startswith("to run it: "))
    assert command.endswith("--esp-dl-version 3.3.9")


def test_where_there_is_no_next_setting_none_is_written(tmp_path: Path) -> None:
    ended, opened = tmp_path / "ended", tmp_path / "opened"
    write_history(ended, swept(*SWEEP, target=0.65))
    in_phase_5(opened)
    for outputs, hint in ((ended, "best/setting.json"), (opened, "by hand")):
        result = compare(outputs, write_next=tmp_path / "next.json")
        assert result.exit_code == 1
        assert any("no next setting was written" in line and hint in line for line in result.lines)
        assert result.lines[0].startswith("best: ")
    assert not (tmp_path / "next.json").exists()


@pytest.mark.parametrize("content", ["QUANT_CONFIG = {}", '{"iteration_id": 0, "status": "ok"}'])
def test_what_is_no_setting_is_not_overwritten(tmp_path: Path, content: str) -> None:
    outputs, file = write_history(tmp_path / "outputs", swept(*SWEEP)), tmp_path / "mine"
    file.write_text(content)
    with pytest.raises(EspdlQuantizeError, match="holds no setting"):
        compare(outputs, write_next=file)
    assert file.read_text() == content
    with pytest.raises(EspdlQuantizeError, match="holds no setting"):
        compare(outputs, write_next=tmp_path)


def test_lint_names_ops_that_the_model_does_not_have(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP), evidence())
    split = {"enabled": True, "interested_layers": ["conv1", "stem"], "value_threshold": 1.5}
    wrong = trained(dispatching_table=[{"op": "conv01", "bits": 16}], weight_split=split)
    content = [row for row in lint(tmp_path, wrong) if row.rule == "unknown-op"]
    assert [row.found.split(",")[0] for row in content] == [
        "dispatching_table names 'conv01'",
        "weight_split.interested_layers names 'stem'",
    ]
    assert content[0].hint.startswith("nearest: ")
    assert "conv0" in content[0].hint
    assert "iter_2/simplified_ops.json" in content[1].hint
    right = trained(dispatching_table=INT16)
    assert lint(tmp_path, right) == []


def test_lint_without_the_names_of_the_ops(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    assert lint(tmp_path, trained(dispatching_table=[{"op": "any", "bits": 16}])) == []
    # Another iteration than best may have them.
    write_run(tmp_path, run(4, 0.1, trained(equalization=EQUALIZED)), evidence())
    content = lint(tmp_path, trained(dispatching_table=[{"op": "any", "bits": 16}]))
    assert [(row.rule, row.iteration_id) for row in content] == [("unknown-op", 4)]


def test_skipped_levers_are_in_the_hint(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP, rest=((0.6, make(tqt_optimization=tqt(steps=1000))),)))
    result = compare(tmp_path)
    assert hint(result)["skipped_levers"][0]["lever"] == "3a-2"
    assert any(line.startswith("skipped 3a-2") for line in result.lines)


@pytest.mark.parametrize(
    ("past", "category"),
    [
        (swept(*SWEEP, target=0.65), "target_reached"),
        (swept(0.5, 0.7, 0.7, 0.7, target=0.9), "plateau"),
    ],
)
def test_phase_4_finalizes_by_itself(tmp_path: Path, past: History, category: str) -> None:
    write_history(tmp_path, past)
    result = compare(tmp_path)
    assert result.exit_code == 0
    assert hint(result)["auto_finalized"] is True
    assert hint(result)["finalize_reason"]["category"] == category
    assert written(tmp_path) == {"best", "final_report.md", "report.html", "comparison.json"}
    assert f"Category: {category}" in (tmp_path / "final_report.md").read_text()
    assert result.best_folder == tmp_path / "best"
    assert result.report == tmp_path / "final_report.md"


def test_asking_in_phase_4_is_recorded_with_the_reason_of_the_phase(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP, target=0.65))
    result = compare(tmp_path, finalize=True)
    assert hint(result)["auto_finalized"] is False
    assert hint(result)["finalize_reason"]["category"] == "manual_finalize_phase4"
    assert "target_reached" in hint(result)["finalize_reason"]["detail"]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_finalize_before_phase_5(tmp_path: Path, count: int) -> None:
    write_history(tmp_path, swept(*SWEEP[:count]))
    assert "best" not in written(compare(tmp_path).history.folder)
    result = compare(tmp_path, finalize=True)
    assert result.exit_code == 0
    assert hint(result)["finalize_reason"]["category"] == "manual_finalize_pre_phase5"
    assert {"best", "final_report.md"} <= written(tmp_path)


def test_finalize_in_phase_5_is_refused(tmp_path: Path) -> None:
    in_phase_5(tmp_path)
    result = compare(tmp_path, finalize=True)
    assert result.exit_code == 1
    assert hint(result)["premature_finalize_rejected"] is True
    assert "finalize_reason" not in hint(result)
    assert written(tmp_path) == {"comparison.json"}
    text = "\n".join(result.lines)
    assert "untried_phase5_patterns: 5alpha: turn a pass or int16 on, 5beta: change" in text
    assert "untried_phase3_levers: 3a-1: train longer, 3d: equalize channels, 3e: 16" in text
    assert "untried_5beta_reapply: none" in text
    assert "--force-finalize" in SHELL.spell(result.lines[-1])
    assert hint(result)["phase5_signals"]["untried_phase3_levers"] == ["3a-1", "3d", "3e", "3g"]


def test_force_finalize_in_phase_5(tmp_path: Path) -> None:
    in_phase_5(tmp_path)
    result = compare(tmp_path, finalize=True, force_finalize=True)
    assert result.exit_code == 0
    reason = hint(result)["finalize_reason"]
    assert reason["category"] == "force_finalize_phase5"
    assert reason["untried_phase5_patterns"]
    report = (tmp_path / "final_report.md").read_text()
    line = next(line for line in report.splitlines() if line.startswith("- Untried patterns: "))
    assert re.findall(r"\b(5\w+): \w+", line) == ["5alpha", "5beta", "5gamma", "5delta"]


@pytest.mark.parametrize("stop", ["budget_reached", "coverage_exhausted"])
def test_an_automatic_run_states_its_own_stop(tmp_path: Path, stop: Any) -> None:
    in_phase_5(tmp_path)
    assert hint(compare(tmp_path, run_stop=stop))["finalize_reason"]["category"] == stop


def test_an_automatic_run_that_reached_the_target_says_so(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP, target=0.65))
    result = compare(tmp_path, run_stop="budget_reached")
    assert hint(result)["finalize_reason"]["category"] == "target_reached"


def test_phase_5_without_finalize_writes_no_report(tmp_path: Path) -> None:
    in_phase_5(tmp_path)
    result = compare(tmp_path)
    assert result.exit_code == 0
    assert "setting" not in hint(result)
    assert written(tmp_path) == {"comparison.json"}


def test_write_best_alone(tmp_path: Path) -> None:
    in_phase_5(tmp_path)
    result = compare(tmp_path, write_best=True)
    assert result.exit_code == 0
    assert written(tmp_path) == {"comparison.json", "best"}
    assert {path.name for path in (tmp_path / "best").iterdir()} == {
        "model.espdl",
        "setting.json",
        "metrics.json",
        "iteration_index.json",
    }


def test_nothing_to_finalize_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, None))
    result = compare(tmp_path, finalize=True)
    assert result.exit_code == 1
    assert "no iteration has a score" in "\n".join(result.lines)
    assert "premature_finalize_rejected" not in hint(result)
    assert written(tmp_path) == {"comparison.json"}


def test_the_report_is_rewritten_while_its_marker_stands(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    report = tmp_path / "final_report.md"
    compare(tmp_path, finalize=True)
    assert report.read_text().splitlines()[0] == MARKER
    report.write_text(MARKER + "\r\nedited\r\n", encoding="utf-8-sig")
    compare(tmp_path, finalize=True)
    assert "edited" not in report.read_text()


@pytest.mark.parametrize("mine", [b"# My report\n", b"", b"\xff\xfe not text"])
def test_a_report_without_the_marker_is_left_alone_unless_forced(
    tmp_path: Path, mine: bytes
) -> None:
    write_history(tmp_path, swept(*SWEEP))
    report = tmp_path / "final_report.md"
    report.write_bytes(mine)
    result = compare(tmp_path, finalize=True)
    assert report.read_bytes() == mine
    assert result.report is None
    assert (tmp_path / "best" / "model.espdl").exists()
    assert any("kept final_report.md" in line for line in result.lines)
    assert compare(tmp_path, finalize=True, force=True).report == report
    assert report.read_text().startswith(MARKER)


@pytest.mark.parametrize("content", ['{"next_step_hint": {}}', "not json", "[]"])
def test_a_comparison_of_another_tool_is_kept(tmp_path: Path, content: str) -> None:
    write_history(tmp_path, swept(*SWEEP))
    (tmp_path / "comparison.json").write_text(content)
    result = compare(tmp_path)
    assert (tmp_path / "comparison.json.foreign-1").read_text() == content
    assert any("comparison.json.foreign-1" in line for line in result.lines)
    assert result.comparison.to_json()["ranking_warnings"]
    assert compare(tmp_path).comparison.to_json()["ranking_warnings"] == []
    assert not (tmp_path / "comparison.json.foreign-2").exists()


def test_warnings_of_the_folder_are_in_the_comparison(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    (tmp_path / "iter_3" / "metrics.json").unlink()
    result = compare(tmp_path)
    assert "iter_3" in result.comparison.to_json()["ranking_warnings"][0]
    assert any(line.startswith("warning: iter_3") for line in result.lines)


def test_an_iteration_of_another_chip_is_listed_and_never_best(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    write_run(tmp_path, run(4, 0.99, trained(equalization=EQUALIZED)), target_chip="esp32s3")
    result = compare(tmp_path, finalize=True)
    content = result.comparison.to_json()
    assert content["best_iteration"]["iteration_id"] == 2
    assert "4" not in content["iteration_ranks"]
    assert [row["iteration_id"] for row in content["excluded_iterations"]] == [4]
    assert "'esp32s3', that of iter_0 is 'esp32p4'" in content["excluded_iterations"][0]["reason"]
    text = "\n".join(result.lines)
    assert "warning: iter_4 is excluded" in text
    assert "iter_4   rank -   0.99       excluded" in text
    assert (tmp_path / "best/model.espdl").read_bytes()[-1] == 2
    assert "iter_4 is excluded from the ranking" in (tmp_path / "final_report.md").read_text()


def test_lines_hold_no_control_characters(tmp_path: Path) -> None:
    content = evidence(hot_ops=(hot("Add", 0.25, name="\x1b[31mred\nline"),))
    write_history(tmp_path, swept(*SWEEP, rest=((0.5, trained(equalization=EQUALIZED)),)), content)
    result = compare(tmp_path)
    assert all(char >= " " for line in result.lines for char in line)


def test_lint_reads_the_folder(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    both = trained(equalization=EQUALIZED, dispatching_table=INT16)
    assert [violation.rule for violation in lint(tmp_path, both)] == ["one-change"]
    assert lint(tmp_path, trained(equalization=EQUALIZED)) == []


def test_a_loop_over_folders_ends(tmp_path: Path) -> None:
    """The hint's setting is all that is carried from one call to the next."""
    values = [0.5, 0.6, 0.7, 0.65, 0.71, 0.72, 0.6, 0.6, 0.6]
    for number, value in enumerate(values):
        content = hint(compare(tmp_path))
        setting = content.get("setting", {"iteration_id": 0, "calib_algorithm": "kl"})
        write_run(tmp_path, run(number, value, parse_setting(setting)), evidence())
    assert hint(compare(tmp_path))["phase"] == "phase-5-agent-driven"


def test_history_of_a_min_metric(tmp_path: Path) -> None:
    rows = [
        run(i, v, s.setting, direction="min")
        for (i, v), s in zip(enumerate((0.5, 0.3, 0.2)), swept(*SWEEP).iterations, strict=False)
    ]
    write_history(tmp_path, history(*rows))
    content = compare(tmp_path).comparison.to_json()
    assert content["best_iteration"]["iteration_id"] == 2
    assert content["iteration_ranks"] == {"0": 3, "1": 2, "2": 1}


def test_which_engine_did_what_is_said_wherever_results_are_read(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    index = tmp_path / "iter_1" / "iteration_index.json"
    record = {
        "part": "the training of a block",
        "layer": "block 2 of 7: conv1 to relu3",
        "reason": "TypingError: no implementation",
    }
    # Another version, or an edit, may have left anything in the list.
    fallbacks = [record, {"part": 3}, "x", {"part": "the export"}]
    stated = {"engine": "fast", "engine_fallbacks": fallbacks}
    index.write_text(json.dumps({**json.loads(index.read_text()), **stated}))

    result = compare(tmp_path, finalize=True, force_finalize=True)
    rows = {row["iteration_id"]: row for row in result.comparison.to_json()["iterations"]}
    assert rows[1]["engine"] == "fast"
    assert rows[1]["engine_fallbacks"] == [
        record,
        {"part": "the export", "layer": "", "reason": ""},
    ]
    assert rows[2]["engine_fallbacks"] == []
    words = (
        "iter_1: the fast engine failed, and plain esp-ppq did instead: the training of a block "
        "(block 2 of 7: conv1 to relu3); the export"
    )
    assert words in result.comparison.to_json()["ranking_warnings"]
    assert f"warning: {words}" in result.lines
    said = "plain esp-ppq did what the fast engine failed at in iter_1"
    assert said in (tmp_path / "final_report.md").read_text().replace("\\", "")
    assert said in (tmp_path / "report.html").read_text()


def test_an_outcome_says_what_the_budget_made_of_it() -> None:
    past = of((0.9, cost(30.0)), (0.7, cost(15.0)), (0.95, cost(21.0)), (0.8, cost(19.0)))
    bounded = under(past, max_latency_ms=20.0)
    told = [outcome_of(bounded, record) for record in bounded.iterations]
    assert told == ["first score", "new best", "over budget", "new best"]
    plain = [outcome_of(past, record) for record in past.iterations]
    assert plain == ["first score", "worse", "new best", "worse"]
