"""``check`` finds before anything long what would stop an iteration in its last stage."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.contracts import CONFIG, RUN, write_contract


def test_the_float_model_is_scored(command: Command, tmp_path: Path) -> None:
    path = write_contract(tmp_path)
    told = command("check", path)
    assert told.returncode == 0, told.stderr
    assert "float value: 100.0" in told.stdout
    assert "evaluated by: evaluate()" in told.stdout
    assert told.stdout.endswith("the contract holds\n")
    extra = f"def evaluate_fast(quant_graph):\n    {RUN}return {{'top1': 12.5}}\n"
    facts = json.loads(command("check", write_contract(tmp_path, extra=extra), "--json").stdout)
    assert (facts["float_value"], facts["evaluated_by"]) == (12.5, "evaluate_fast()")


@pytest.mark.parametrize(
    ("evaluate", "told"),
    [
        ("return {'top5': 1.0}", "evaluate() returned no 'top1', only ['top5']"),
        ("return 71.0", "evaluate() returned a float, expected a dict"),
        ("return {'top1': float('nan')}", "expected a finite number"),
        ("return {'top1': 92.2}", "evaluate() in user_quant.py never runs the graph"),
        ("return 1 / 0", "ZeroDivisionError: division by zero (user_quant.py:10, in evaluate())"),
    ],
)
def test_a_wrong_score_is_a_fault_of_the_contract(
    command: Command, tmp_path: Path, evaluate: str, told: str
) -> None:
    path = write_contract(tmp_path, evaluate=evaluate)
    done = command("check", path)
    assert done.returncode == 3
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_score_may_be_left_out(command: Command, tmp_path: Path) -> None:
    done = command("check", write_contract(tmp_path, evaluate="return 1 / 0"), "--no-score")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the contract holds; evaluate() was not called\n")


@pytest.mark.parametrize("score", [[], ["--no-score"]])
def test_few_calibration_samples_are_warned_of(
    command: Command, tmp_path: Path, score: list[str]
) -> None:
    path = write_contract(tmp_path, config={**CONFIG, "calib_steps": 3})
    facts = json.loads(command("check", path, "--json", *score).stdout)
    (told,) = facts["warnings"]
    assert "calibration reads only 48 samples" in told
    assert "256 or more" in told


def test_a_starter_that_is_not_filled_in_says_so(command: Command, tmp_path: Path) -> None:
    command("init", "--torch")
    done = command("check", "user_quant.py")
    assert done.returncode == 3
    assert "fill in the TODO in create_calib_dataloader()" in done.stderr
    assert "fill in the TODO in get_torch_model()" in done.stderr
    (tmp_path / "data" / "calibration").mkdir(parents=True)
    (tmp_path / "data" / "calibration" / "0.jpg").touch()
    done = command("check", "user_quant.py")
    assert "fill in the TODO in load_sample()" in done.stderr


def test_a_narrow_terminal_cuts_off_no_key(command: Command, tmp_path: Path) -> None:
    keys = ("graphwise_intervening_excess_threshold", "deploy_runtime_priority", "calib_steps")
    path = write_contract(tmp_path, config=CONFIG | dict.fromkeys(keys, "x" * 40))
    done = command("check", path, columns=80)
    assert "…" not in done.stdout + done.stderr
    for key in keys:
        assert f'QUANT_CONFIG["{key}"]' in done.stderr


def test_the_faults_of_every_stage_are_told_in_one_go(command: Command, tmp_path: Path) -> None:
    path = write_contract(
        tmp_path,
        config=CONFIG | {"batch_size": 4},
        calibration="return [__import__('torch').full((4, 1, 28, 28), float('nan'))] * 4",
        evaluate="return {'top5': 1.0}",
    )
    done = command("check", path)
    assert done.returncode == 3
    assert "holds NaN or infinite values" in done.stderr
    assert "evaluate() returned no 'top1', only ['top5']" in done.stderr
    form = json.loads(command("check", path, "--json").stdout)
    assert (form["ok"], form["error"]["kind"], form["error"]["exit_code"]) == (False, "findings", 3)
    kinds = [(each["kind"], each["subject"]) for each in form["findings"]]
    assert kinds == [("fault", "create_calib_dataloader()"), ("fault", "evaluate()")]


def test_a_faulty_key_does_not_hide_the_data_and_the_model(
    command: Command, tmp_path: Path
) -> None:
    path = write_contract(
        tmp_path,
        config=CONFIG | {"metric_direction": "up", "device": "tpu", "target": "esp99"},
        calibration="return [__import__('torch').zeros(16, 1, 28, 28)] * 4",
        model="return __import__('torch').nn.Linear(3, 4).eval()",
    )
    done = command("check", path)
    assert done.returncode == 3
    for text in ("metric_direction", "'tpu'", "'esp99'", "all zeros", "the torch model fails"):
        assert text in done.stderr
    findings = json.loads(command("check", path, "--json").stdout)["findings"]
    # 64 samples are few for kl, which is a note.
    faults = [finding for finding in findings if finding["code"] != "few_for_kl"]
    assert [fault["kind"] for fault in faults] == ["fault"] * 5
