import json
import os
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import OutputFolderError
from espdl_quantize.record import (
    History,
    LazyEvidence,
    load_applied,
    load_evidence,
    read_history,
)
from espdl_quantize.search import Proposal, SearchState, decide, sweep_point, sweep_setting
from espdl_quantize.setting import baseline, setting_key
from tests.search.made_runs import (
    SWEEP,
    evidence,
    hot,
    run,
    swept,
    trained,
    weight,
    write_history,
    write_run,
)
from tests.there import there


def kinds(history: History) -> list[str]:
    return sorted(warning.kind for warning in history.warnings)


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP, target=0.9))
    (tmp_path / "float_reference.json").write_text(
        json.dumps({"scores": {"evaluate": {"metrics": {}, "primary_value": 0.82}, "bad": 3}})
    )
    past = read_history(tmp_path)
    assert [row.id for row in past.iterations] == [0, 1, 2, 3]
    assert past.warnings == ()
    assert there(past.best).id == 2
    assert past.metric == "top1"
    assert (past.direction, past.target, past.priority) == ("max", 0.9, "balanced")
    assert past.ranks == {0: 4, 1: 3, 2: 1, 3: 2}
    assert past.float_scores == {"evaluate": 0.82}
    row = past.iterations[1]
    assert setting_key(there(row.setting)) == setting_key(sweep_setting("kl"))
    assert row.status == "ok"
    assert row.elapsed_by_stage == {"quantize": 10.0}
    assert row.top_5_error_layers[0].op == "conv0"
    assert row.metrics["top5"] == 0.9
    assert (row.evaluated_by, row.float_value, row.target_chip) == ("evaluate", 0.82, "esp32p4")


def test_order_is_by_number_not_by_name(tmp_path: Path) -> None:
    for number in (10, 2, 9):
        write_run(tmp_path, run(number, 0.5))
    assert [row.id for row in read_history(tmp_path).iterations] == [2, 9, 10]


def test_nothing_is_written_or_cached(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert there(read_history(tmp_path).best).id == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    edit(tmp_path / "iter_3", "iteration_index.json", primary_value=0.99)
    assert there(read_history(tmp_path).best).id == 3


def test_a_failed_iteration_keeps_its_cause(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, None))
    row = read_history(tmp_path).iterations[0]
    assert row.status == "failed"
    assert (there(row.failure).stage, there(row.failure).hint) == (
        "quantize",
        "take a smaller batch",
    )
    assert "out of memory" in str(row.failure)
    assert read_history(tmp_path).ranks == {0: None}


def test_a_failure_in_the_style_of_older_folders(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run(0, 0.5), status=None, error=None, primary_value=None)
    edit(folder, "metrics.json", _error="ValueError: bad image")
    past = read_history(tmp_path)
    assert there(past.iterations[0].failure).cause == "ValueError: bad image"
    assert past.warnings == ()


def test_an_index_without_the_newer_keys_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run(0, 0.5))
    old = ("iteration_id", "primary_metric", "primary_value", "metric_direction")
    index = json.loads((folder / "iteration_index.json").read_text())
    (folder / "iteration_index.json").write_text(json.dumps({key: index[key] for key in old}))
    past = read_history(tmp_path)
    assert there(past.best).value == 0.5
    assert past.warnings == ()


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "true", "null", '"0.5"', "[]"])
def test_a_value_that_is_no_finite_number_fails_with_a_warning(tmp_path: Path, bad: str) -> None:
    folder = write_run(tmp_path, run(0, 0.5))
    path = folder / "iteration_index.json"
    path.write_text(path.read_text().replace('"primary_value": 0.5', f'"primary_value": {bad}'))
    past = read_history(tmp_path)
    assert past.iterations[0].status == "failed"
    assert kinds(past) == ["metric"]
    assert past.best is None


@pytest.mark.parametrize("missing", ["iteration_index.json", "metrics.json"])
def test_a_half_written_folder_is_left_out_and_keeps_its_number(
    tmp_path: Path, missing: str
) -> None:
    write_history(tmp_path, swept(*SWEEP[:2]))
    (tmp_path / "iter_1" / missing).unlink()
    past = read_history(tmp_path)
    assert [row.id for row in past.iterations] == [0]
    assert kinds(past) == ["half-written"]
    assert past.next_id == 2


def test_a_setting_alone_is_a_plan_not_an_iteration(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5))
    (tmp_path / "iter_1").mkdir()
    (tmp_path / "iter_1" / "setting.json").write_text("{}")
    past = read_history(tmp_path)
    assert past.next_id == 1
    assert past.warnings == ()


@pytest.mark.parametrize("name", ["iteration_index.json", "metrics.json"])
@pytest.mark.parametrize("content", ["{", "[]", "3", "", "\x00", '{"a": 1}}', "[" * 100_000])
def test_broken_json_is_left_out(tmp_path: Path, name: str, content: str) -> None:
    write_history(tmp_path, swept(*SWEEP[:2]))
    (tmp_path / "iter_1" / name).write_text(content)
    past = read_history(tmp_path)
    assert [row.id for row in past.iterations] == [0]
    assert kinds(past) == ["broken-json"]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP[:2]))
    (tmp_path / "iter_1" / "iteration_index.json").write_bytes(b"\xff\xfe\x00")
    assert kinds(read_history(tmp_path)) == ["broken-json"]


@pytest.mark.parametrize("content", ["{", "{}", '{"iteration_id": 1, "bogus": 2}', None])
def test_a_broken_setting_keeps_the_row_but_not_the_setting(
    tmp_path: Path, content: str | None
) -> None:
    write_history(tmp_path, swept(*SWEEP))
    path = tmp_path / "iter_2" / "setting.json"
    path.unlink() if content is None else path.write_text(content)
    past = read_history(tmp_path)
    assert there(past.best).id == 2
    assert there(past.best).setting is None
    assert kinds(past) == ["setting"]


def test_a_renamed_folder_is_known_by_its_name(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5))
    write_run(tmp_path, run(1, 0.6), iteration_id=7)
    past = read_history(tmp_path)
    assert [row.id for row in past.iterations] == [0, 1]
    assert kinds(past) == ["renamed"]


@pytest.mark.parametrize("name", ["iter_x", "iter_01", "iter_-1", "Iter_1", "iter_1.bak", "iter_"])
def test_foreign_folders_are_named_and_not_read(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, run(0, 0.5))
    (tmp_path / name).mkdir()
    past = read_history(tmp_path)
    assert len(past.iterations) == 1
    assert kinds(past) == ["foreign-folder"]


def test_other_entries_are_nobodys_business(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5))
    for name in ("best", "contract_check", ".iter_1.partial", "notes"):
        (tmp_path / name).mkdir()
    assert read_history(tmp_path).warnings == ()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere, outputs = tmp_path / "elsewhere", tmp_path / "outputs"
    write_run(elsewhere, run(1, 0.9))
    write_run(outputs, run(0, 0.5))
    (outputs / "iter_1").symlink_to(elsewhere / "iter_1")
    past = read_history(outputs)
    assert [row.id for row in past.iterations] == [0]
    assert kinds(past) == ["foreign-folder"]


def test_gaps_are_told_whatever_their_size(tmp_path: Path) -> None:
    for number in (0, 2, 999_999_999):
        write_run(tmp_path, run(number, 0.5))
    past = read_history(tmp_path)
    assert kinds(past) == ["gap"]
    assert "iter_1, iter_3 to iter_999999998" in past.warnings[0].text


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"metric_direction": "min"}, "direction"),
        ({"metric_direction": "up"}, "direction"),
        ({"primary_metric": "top5"}, "metric-name"),
        ({"evaluated_by": "evaluate_fast"}, "evaluated-by"),
    ],
)
def test_disagreements_are_warnings_and_the_first_scored_iteration_rules(
    tmp_path: Path, changes: dict[str, Any], kind: str
) -> None:
    write_history(tmp_path, swept(*SWEEP))
    edit(tmp_path / "iter_1", "iteration_index.json", **changes)
    past = read_history(tmp_path)
    assert kinds(past) == [kind]
    assert past.warnings[0].iteration_id == 1
    assert (past.metric, past.direction, there(past.best).id) == ("top1", "max", 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target_chip": "esp32s3"}, "target_chip is 'esp32s3', that of iter_0 is 'esp32p4'"),
        ({"float_reference_key": "b" * 64}, "bbbbbbbbbbbb, that of iter_0 is aaaaaaaaaaaa"),
    ],
)
def test_another_chip_or_contract_is_not_ranked(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    write_history(tmp_path, swept(*SWEEP))
    for number in range(4):
        edit(tmp_path / f"iter_{number}", "iteration_index.json", float_reference_key="a" * 64)
    edit(tmp_path / "iter_2", "iteration_index.json", **changes)
    past = read_history(tmp_path)
    assert [row.id for row in past.iterations] == [0, 1, 3]
    assert [row.id for row in past.excluded] == [2]
    assert there(past.best).id == 3
    assert past.next_id == 4
    assert kinds(past) == ["other-origin"]
    assert past.warnings[0].iteration_id == 2
    assert told in past.warnings[0].text
    assert "iter_2" in past.warnings[0].text


def test_iterations_older_than_the_key_conflict_with_none(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    edit(tmp_path / "iter_2", "iteration_index.json", float_reference_key="a" * 64)
    assert read_history(tmp_path).warnings == ()
    # The first key counts from then on.
    edit(tmp_path / "iter_3", "iteration_index.json", float_reference_key="b" * 64)
    past = read_history(tmp_path)
    assert [row.id for row in past.excluded] == [3]
    assert "that of iter_2" in past.warnings[0].text


def test_a_failed_iteration_is_no_measure(tmp_path: Path) -> None:
    """The contract is fixed after a failure, which changes it."""
    write_run(tmp_path, run(0, None), float_reference_key="a" * 64)
    assert read_history(tmp_path).excluded == ()
    write_run(tmp_path, run(1, 0.5), float_reference_key="b" * 64)
    past = read_history(tmp_path)
    assert [row.id for row in past.iterations] == [1]
    assert [row.id for row in past.excluded] == [0]


def test_a_float_score_of_another_contract_is_not_used(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5), float_reference_key="a" * 64)
    scores = {"evaluate": {"primary_value": 0.82}}
    reference = tmp_path / "float_reference.json"
    for key, found in (("a" * 64, {"evaluate": 0.82}), ("b" * 64, {})):
        reference.write_text(json.dumps({"key": key, "scores": scores}))
        assert read_history(tmp_path).float_scores == found


def test_a_float_model_that_scores_otherwise_is_told(tmp_path: Path) -> None:
    write_history(tmp_path, swept(*SWEEP))
    edit(tmp_path / "iter_3", "iteration_index.json", float_value=0.79)
    past = read_history(tmp_path)
    assert kinds(past) == ["float-value"]
    assert "iter_3 has the float model at 0.79, iter_0 at 0.82" in past.warnings[0].text
    assert len(past.iterations) == 4


def test_the_first_scored_iteration_gives_the_direction(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, None, direction="max"))
    write_run(tmp_path, run(1, 3.0, direction="min"))
    write_run(tmp_path, run(2, 2.0, direction="min"))
    past = read_history(tmp_path)
    assert (past.direction, there(past.best).id) == ("min", 2)


@pytest.mark.parametrize(
    ("content", "foreign"),
    [("{}", True), ("[]", True), ("{", True), ('{"generated_by": "espdl-quantize"}', False)],
)
def test_a_comparison_of_another_tool(tmp_path: Path, content: str, foreign: bool) -> None:
    write_run(tmp_path, run(0, 0.5))
    (tmp_path / "comparison.json").write_text(content)
    assert (kinds(read_history(tmp_path)) == ["foreign-comparison"]) is foreign


def test_a_broken_float_reference_is_a_warning(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5))
    (tmp_path / "float_reference.json").write_text("{")
    assert kinds(read_history(tmp_path)) == ["broken-json"]


def test_a_missing_folder_is_an_error_with_a_mend(tmp_path: Path) -> None:
    with pytest.raises(OutputFolderError) as caught:
        read_history(tmp_path / "nowhere")
    assert "nowhere" in caught.value.cause
    assert caught.value.hint


def test_evidence_is_read_when_asked_for(tmp_path: Path) -> None:
    found = evidence(hot_ops=(hot("Add", 0.264),), stats=(weight("conv0", None),))
    write_run(tmp_path, run(0, 0.5, trained()), found)
    lazy = LazyEvidence(read_history(tmp_path))
    (tmp_path / "iter_0" / "layerwise_error.json").write_text('{"a": 0.1, "b": 0.9, "c": null}')
    read = lazy[0]
    assert read.worst(5) == [("b", 0.9), ("a", 0.1)]
    assert read.hot_ops == found.hot_ops
    assert read.stats == found.stats
    assert read.ops == found.ops
    assert read.problems == ()
    assert list(lazy) == [0]
    assert 9 not in lazy


@pytest.mark.parametrize(
    "content", ["{", "null", '"x"', "[1, null, {}]", "{}", "[[]]", '{"ops": "x"}']
)
def test_odd_artifacts_leave_their_part_empty(tmp_path: Path, content: str) -> None:
    write_run(tmp_path, run(0, 0.5))
    for name in (
        "layerwise_error",
        "graphwise_error",
        "layer_stats_full",
        "layer_stats",
        "non_computing_hot_ops",
        "graphwise_jumps",
        "simplified_ops",
    ):
        (tmp_path / "iter_0" / f"{name}.json").write_text(content)
    read = load_evidence(read_history(tmp_path).iterations[0])
    assert read.worst(3) == []


def test_no_artifacts_is_no_problem(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5))
    read = load_evidence(read_history(tmp_path).iterations[0])
    assert read.layerwise == ()
    assert read.problems == ()


def test_applied_setting_and_bits(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run(0, 0.5, trained()))
    row = read_history(tmp_path).iterations[0]
    assert load_applied(row).num_of_bits == 8
    assert load_applied(row).setting == row.setting
    (folder / "applied_setting_summary.json").write_text(
        json.dumps(
            {
                "resolved_setting": {"iteration_id": 0, "calib_algorithm": "mse"},
                "target": {"num_of_bits": 16},
            }
        )
    )
    assert load_applied(row).num_of_bits == 16
    assert there(load_applied(row).setting).tqt_optimization is None


def test_half_a_surrogate_pair_does_no_harm(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run(0, 0.5), rationale="x")
    path = folder / "iteration_index.json"
    path.write_text(path.read_text().replace('"tiny"', '"ti\\ud800ny"'))
    (folder / "setting.json").write_text('{"iteration_id": 0, "rationale": "\\ud800"}')
    past = read_history(tmp_path)
    there(past.iterations[0].model_name).encode()
    assert kinds(past) == ["setting"]


def test_an_unreadable_folder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_history(tmp_path, swept(*SWEEP[:2]))
    listed = type(tmp_path).iterdir

    def iterdir(folder: Any) -> Any:
        if folder.name == "iter_1":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(type(tmp_path), "iterdir", iterdir)
    past = read_history(tmp_path)
    assert [row.id for row in past.iterations] == [0]
    assert kinds(past) == ["unreadable"]
    assert past.next_id == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    write_run(tmp_path, run(0, 0.5))
    index = tmp_path / "iter_0/iteration_index.json"
    index.unlink()
    os.mkfifo(index)
    (warning,) = [one for one in read_history(tmp_path).warnings if one.iteration_id == 0]
    assert "iteration_index.json is no file" in warning.text


def test_constants_have_no_say_in_hot_ops_of_earlier_versions(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run(0, 0.5), evidence())
    six = {"snr": 0.98, "is_parameter": True}
    rows = [
        {"op_name": "clip", "op_type": "Clip", "max_snr": 0.98, "per_var_snrs": [six]},
        {"op_name": "add", "op_type": "Add", "max_snr": 0.25, "per_var_snrs": [{"snr": 0.25}]},
        {"op_name": "mul", "op_type": "Mul", "max_snr": 0.3, "per_var_snrs": []},
    ]
    (folder / "non_computing_hot_ops.json").write_text(json.dumps(rows))
    hot_ops = load_evidence(read_history(tmp_path).iterations[0]).hot_ops
    assert [(op.op, op.max_snr) for op in hot_ops] == [("mul", 0.3), ("add", 0.25), ("clip", 0.0)]


def unnamed(folder: Path) -> None:
    """Leave the calibration of an iteration to esp-ppq."""
    path = folder / "setting.json"
    setting = json.loads(path.read_text())
    del setting["calib_algorithm"]
    path.write_text(json.dumps(setting))


def test_the_width_says_what_an_unnamed_calibration_is(tmp_path: Path) -> None:
    write_history(tmp_path, swept(0.7))
    folder = tmp_path / "iter_0"
    unnamed(folder)
    assert there(read_history(tmp_path).iterations[0].setting).calib_algorithm == "kl"
    # Earlier versions state it in this file alone.
    summary = folder / "applied_setting_summary.json"
    summary.write_text(json.dumps({"target": {"num_of_bits": 16}}))
    for past in (read_history(tmp_path), read_history(tmp_path)):
        assert past.num_of_bits == 16
        assert there(past.iterations[0].setting).calib_algorithm == "minmax"
        assert there(past.baseline).id == 0
        assert load_applied(past.iterations[0]).num_of_bits == 16
        edit(folder, "iteration_index.json", num_of_bits=16)
        summary.unlink(missing_ok=True)
    edit(folder, "iteration_index.json", num_of_bits="many")
    assert read_history(tmp_path).num_of_bits is None


def test_a_16_bit_folder_whose_baseline_is_kl_is_read_and_goes_on(tmp_path: Path) -> None:
    rows = [run(0, 0.70, baseline(0)), run(1, 0.72, sweep_setting("kl"))]
    for row in rows:
        write_run(tmp_path, row, evidence(), num_of_bits=16)
    past = read_history(tmp_path)
    assert past.warnings == ()
    # It holds no baseline of esp-ppq's default there: the first iteration stands for it.
    assert there(past.baseline).id == 0
    decision = decide(SearchState.of(past, LazyEvidence(past)))
    assert decision.phase == "phase-2-calib-tqt-sweep"
    assert isinstance(decision, Proposal)
    assert sweep_point(decision.setting) == "mse"
    write_run(tmp_path, run(2, 0.71, baseline(2, 16)), evidence(), num_of_bits=16)
    assert there(read_history(tmp_path).baseline).id == 2


def test_a_baseline_that_wins_at_16_bits_stays_best(tmp_path: Path) -> None:
    settings = [
        baseline(0, 16),
        sweep_setting("kl", 1),
        sweep_setting("mse", 2),
        sweep_setting("percentile", 3),
    ]
    values = (0.92, 0.917, 0.918, 0.919)
    for value, setting in zip(values, settings, strict=True):
        row = run(setting.iteration_id, value, setting)
        write_run(tmp_path, row, evidence(), num_of_bits=16)
    past = read_history(tmp_path)
    assert (there(past.best).id, there(past.baseline).id) == (0, 0)
    decision = decide(SearchState.of(past, LazyEvidence(past)))
    assert isinstance(decision, Proposal)
    assert decision.setting.calib_algorithm == "minmax"
