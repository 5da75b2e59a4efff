"""``--dry-run``: the truth about what would be run, and an untouched disk."""

import json
from pathlib import Path

import pytest

from espdl_quantize.cli._dry_run import preview_search
from espdl_quantize.core import OutputFolderError
from espdl_quantize.search import sweep_setting
from espdl_quantize.tuning import Budget, TuneOptions, preview, tune
from tests.cli.conftest import Command
from tests.contracts import CONFIG, write_contract
from tests.search.made_runs import SWEEP, swept, write_history
from tests.tuning.fake_backend import FakeBackend


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(entry.relative_to(folder)): (entry.stat().st_mtime_ns, entry.stat().st_size)
        for entry in folder.rglob("*")
        if "__pycache__" not in entry.parts
    }


def test_an_iteration_is_told_with_its_rules_and_not_run(command: Command, tmp_path: Path) -> None:
    contract = write_contract(tmp_path, config={**CONFIG, "target": "esp32p4"})
    write_history(tmp_path / "outputs", swept(*SWEEP))
    setting = tmp_path / "s.json"
    setting.write_text(
        json.dumps(
            {
                "iteration_id": 4,
                "calib_algorithm": "mse",
                "tqt_optimization": {"enabled": True, "steps": 1000},
                "dispatching_table": [{"op": "nowhere", "bits": 16}],
                "lsq_optimization": {"enabled": False, "lr": 1e-3},
            }
        )
    )
    before = listing(tmp_path)
    arguments = ["run", contract, "--output-dir", "outputs/iter_4", "--setting", "s.json"]
    done = command(*arguments, "--dry-run", "--allow", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["target_chip"] == "esp32p4"
    assert told["best_iteration"] == 2
    assert "steps" in told["changes_to_best"]
    assert any("lsq_optimization has parameters" in warning for warning in told["warnings"])
    assert any("one-change" in warning for warning in told["warnings"])
    assert told["resolved_setting"]["tqt_optimization"]["collecting_device"] == "cpu"
    assert command(*arguments, "--dry-run").returncode == 1
    assert listing(tmp_path) == before


def test_what_would_be_refused_is_refused(command: Command, tmp_path: Path) -> None:
    contract = write_contract(tmp_path)
    write_history(tmp_path / "outputs", swept(*SWEEP))
    done = command("run", contract, "--output-dir", "outputs/iter_0", "--baseline", "--dry-run")
    assert done.returncode == 7
    assert "--overwrite" in done.stderr
    done = command("run", contract, "--output-dir", "new/iter_0", "--baseline", "--dry-run")
    assert done.returncode == 0
    assert "unknown" in done.stdout
    assert not (tmp_path / "new").exists()


def test_a_search_does_first_what_its_preview_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    for count in range(14):
        before = listing(tmp_path)
        found = preview(FakeBackend(), outputs, TuneOptions(Budget(1)))
        assert listing(tmp_path) == before
        done = tune(FakeBackend(), outputs, TuneOptions(Budget(1)))
        if found.proposal is None:
            assert done.iterations_run == 0
            break
        ran = done.history.iterations[count].setting
        assert ran == found.proposal.setting
    preview_search(FakeBackend(), outputs, TuneOptions(Budget(3)), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["budget"]["iterations"] == 3
    assert (told["next"] is None) == (told["stop"] is not None)


def test_a_first_step_beyond_the_budget_of_time_is_told(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    tune(FakeBackend(), outputs, TuneOptions(Budget(2)))
    found = preview(FakeBackend(), outputs, TuneOptions(Budget(seconds=1.0)))
    assert found.proposal is None
    assert "budget_reached" in found.stop
    assert found.estimate is not None and found.estimate.seconds > 1


def test_a_preview_refuses_a_contract_that_was_edited(tmp_path: Path) -> None:
    tune(FakeBackend(contract_key="a"), tmp_path, TuneOptions(Budget(1)))
    assert preview(FakeBackend(contract_key="a"), tmp_path).proposal is not None
    with pytest.raises(OutputFolderError, match="the contract was edited since iter_0"):
        preview(FakeBackend(contract_key="b"), tmp_path)


def test_the_leg_is_previewed_whole(tmp_path: Path) -> None:
    write_history(tmp_path, swept(0.5))
    found = preview(FakeBackend(), tmp_path)
    assert found.proposal is not None
    assert found.proposal.setting.tqt_optimization == sweep_setting("kl").tqt_optimization
