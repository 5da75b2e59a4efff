"""``tune`` and the check that ``run`` makes: messages, exit codes and what is left behind."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from espdl_quantize.cli.run import check_discipline
from espdl_quantize.cli.search import result_table, search_and_print
from espdl_quantize.core import EXIT_INTERRUPTED, SHELL, EspdlQuantizeError, InterruptedSearchError
from espdl_quantize.record.comparison import ScoreInterval
from espdl_quantize.search import Proposal, SearchState, decide
from espdl_quantize.search.policies import make_policy
from espdl_quantize.setting import Setting, baseline
from espdl_quantize.tuning import Budget, TuneOptions, tune
from tests.cli.test_cli import run
from tests.search.made_runs import EQUALIZED, SWEEP, evidence, history, swept, trained
from tests.search.made_runs import write_history as write
from tests.tuning.fake_backend import FakeBackend

BIAS = {"enabled": True, "block_size": 4, "steps": 32}


def search(outputs: Path, backend: FakeBackend, iterations: int = 5, as_json: bool = False) -> None:
    options = TuneOptions(Budget(iterations))
    search_and_print(backend, make_policy("evidence"), outputs, options, as_json=as_json)


def test_what_is_told_while_it_runs_and_in_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    search(tmp_path / "outputs", FakeBackend())
    out, err = capfd.readouterr()
    assert "baseline: 1 iteration" in err
    assert "calibration sweep (phase 2) | mse + TQT | best 0.71759 (iter_1) | 54% of the" in err
    assert "one lever at a time (phase 3) | lever 3a-1: train longer |" in err
    assert "iteration 3 of 5 | takes about 2 min 0 s | about 6 min 0 s left" in err
    assert (
        "iter_2: top1 0.74739 (+0.0298 against the best before: new best); best now: a better score"
        in err
    )
    assert "stopped (budget_reached)" in out
    assert "of the drop from float to baseline came back" in out
    last = out.splitlines()[-1]
    assert "best: iter_4," in last and "(float 0.82, baseline 0.5996)" in last
    assert last.endswith("; 5 iterations")
    assert "\x1b" not in out + err


@pytest.mark.parametrize(("width", "has_room"), [(80, False), (160, True)])
def test_the_table_shows_what_it_knows_and_has_room_for(
    tmp_path: Path, width: int, has_room: bool
) -> None:
    backend = FakeBackend()
    search(tmp_path, backend, 2)
    result = tune(backend, tmp_path, TuneOptions(Budget(1)))
    interval = ScoreInterval(low=0.5, high=0.75, method="wilson")
    whole = result.comparison.comparison
    known = tuple(each.model_copy(update={"interval": interval}) for each in whole.iterations)
    comparison = replace(
        result.comparison, comparison=whole.model_copy(update={"iterations": known})
    )
    table = result_table(replace(result, comparison=comparison), width)
    heads = {str(column.header) for column in table.columns}
    assert ("95 %" in heads) == has_room
    # Nothing of them is known here.
    assert heads.isdisjoint({"noise", "agrees"})
    assert {"iter", "changed", "top1", "delta", "outcome"} <= heads


def test_a_failed_iteration_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backend = FakeBackend(score=lambda setting: None if setting.iteration_id == 1 else 0.5)
    search(tmp_path, backend, 3)
    out, err = capfd.readouterr()
    assert "iter_1 failed" in err
    assert "failed" in out


def test_json_is_one_object_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search(tmp_path, FakeBackend(), as_json=True)
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert err == ""
    assert told["stop"]["category"] == "budget_reached"
    assert told["iterations_run"] == 5
    assert Path(told["best"], "model.espdl").exists()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(InterruptedSearchError) as error:
        search(tmp_path, FakeBackend(scripted={2: KeyboardInterrupt()}))
    assert error.value.exit_code == EXIT_INTERRUPTED
    assert str(tmp_path / "best") in error.value.cause
    assert "same command" in error.value.hint
    assert "2 of 5 iterations were done; for the rest: --iterations 3" in SHELL.spell(
        error.value.hint
    )
    assert (tmp_path / "best/model.espdl").exists()


def test_ctrl_c_before_any_score(tmp_path: Path) -> None:
    with pytest.raises(InterruptedSearchError, match="nothing has a score"):
        search(tmp_path, FakeBackend(scripted={0: KeyboardInterrupt()}))


def test_a_search_that_has_ended_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flat = FakeBackend(score=lambda setting: 0.7)
    search(tmp_path, flat)
    capfd.readouterr()
    search(tmp_path, flat)
    out, _ = capfd.readouterr()
    assert "nothing was run: the search in this folder has ended already" in out
    assert "stopped (plateau)" in out
    assert "--ignore-plateau" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--iterations", "0"], "number of iterations is 0"),
        (["--iterations", "-2"], "number of iterations is -2"),
        (["--time", "soon"], "'soon' is no duration"),
        (["--time", "0m"], "the time is 0 s"),
        (["--policy", "oracle"], "choose one of evidence"),
        (["--iteration-limit", "soon"], "'soon' is no duration"),
        (["--iteration-limit", "5m", "--in-process"], "cannot end an iteration"),
    ],
)
def test_wrong_usage_is_2_and_says_why(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run("tune", "user_quant.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_contract_leaves_nothing(tmp_path: Path) -> None:
    done = run("tune", "nothing.py", "--iterations", "3", cwd=tmp_path)
    assert done.returncode == 3
    assert "nothing.py" in done.stderr
    assert not (tmp_path / "outputs").exists()


def save(path: Path, setting: Setting | None) -> Path:
    assert setting is not None
    path.write_text(json.dumps(setting.model_dump(exclude_none=True)))
    return path


def test_run_refuses_what_breaks_a_rule_unless_allowed(tmp_path: Path) -> None:
    write(tmp_path / "outputs", swept(*SWEEP), evidence())
    broken = save(tmp_path / "my.json", trained(bias_correct=BIAS, equalization=EQUALIZED))
    arguments = ["run", "nothing.py", "--output-dir", tmp_path / "outputs/iter_4"]
    done = run(*arguments, "--setting", broken)
    assert done.returncode == 1
    assert "one-change: 2 changes to iter_2" in done.stderr
    assert "--allow" in done.stderr
    allowed = run(*arguments, "--setting", broken, "--allow")
    # It goes on to the contract, which is not there.
    assert allowed.returncode == 3


def test_what_the_search_asks_for_passes(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    past = swept(*SWEEP)
    hint = decide(SearchState.of(past, {row.id: evidence() for row in past.iterations}))
    assert isinstance(hint, Proposal)
    write(outputs, past, evidence())
    check_discipline(save(tmp_path / "hint.json", hint.setting), outputs / "iter_4")
    # The best once more, for its score by evaluate().
    check_discipline(outputs / "iter_2/setting.json", outputs / "iter_4")
    # Every iteration again in its own folder, judged by what was known then.
    for number in range(4):
        folder = outputs / f"iter_{number}"
        check_discipline(folder / "setting.json", folder)


def test_where_there_is_no_search_nothing_is_checked(tmp_path: Path) -> None:
    wild = save(tmp_path / "my.json", trained(bias_correct=BIAS, equalization=EQUALIZED))
    check_discipline(wild, tmp_path / "nowhere/iter_0")
    check_discipline(wild, tmp_path / "iter_0")
    check_discipline(save(tmp_path / "plain.json", baseline()), tmp_path / "iter_0")
    write(tmp_path / "outputs", history(), evidence()).mkdir()
    check_discipline(wild, tmp_path / "outputs/iter_0")
    write(tmp_path / "others", swept(*SWEEP), evidence())
    check_discipline(wild, tmp_path / "others/experiment")
    with pytest.raises(EspdlQuantizeError):
        check_discipline(wild, tmp_path / "others/iter_7")
