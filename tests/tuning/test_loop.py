"""The whole search, on a made-up network."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import ContractError, IterationError, OutputFolderError
from espdl_quantize.record import IterationRecord, locked, read_history
from espdl_quantize.setting import setting_key
from espdl_quantize.tuning import Budget, Observer, TuneOptions, TuneResult, tune
from tests.search.made_runs import known, run, write_run
from tests.tuning.fake_backend import FLOAT, FakeBackend, mirrored, response


def search(outputs: Path, backend: FakeBackend | None = None, **options: Any) -> TuneResult:
    backend = backend or FakeBackend()
    return tune(backend, outputs, TuneOptions(**options), clock=backend.clock)


def settings_of(outputs: Path) -> list[str]:
    return [setting_key(row.setting) for row in read_history(outputs).iterations if row.setting]


def best_of(outputs: Path) -> int:
    return int(json.loads((outputs / "best/iteration_index.json").read_text())["iteration_id"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuneResult]:
    outputs = tmp_path_factory.mktemp("undisturbed")
    return outputs, search(outputs)


def test_it_goes_through_all_phases_to_a_stop(undisturbed: tuple[Path, TuneResult]) -> None:
    outputs, result = undisturbed
    history = result.history
    assert result.category in ("plateau", "coverage_exhausted")
    assert result.iterations_run == len(history.iterations) > 9
    assert history.best is not None
    assert known(history.best.value) > response(known(history.iterations[3].setting))
    assert known(history.gap_closed) > 0.9
    assert best_of(outputs) == history.best.id
    assert (outputs / "best/model.espdl").exists()
    report = (outputs / "final_report.md").read_text()
    assert f"Category: {result.category}" in report
    # The report checks every iteration against the discipline.
    assert "ran against the rule" not in report
    assert len(set(settings_of(outputs))) == len(history.iterations)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_both_directions_go_the_same_way(
    tmp_path: Path, undisturbed: tuple[Path, TuneResult], direction: str
) -> None:
    score = response if direction == "max" else mirrored
    result = search(tmp_path, FakeBackend(score=score, direction=direction))
    assert settings_of(tmp_path) == settings_of(undisturbed[0])
    assert result.category == undisturbed[1].category
    assert result.history.gap_closed == pytest.approx(undisturbed[1].history.gap_closed)


def test_an_interrupted_search_goes_on_where_it_stopped(
    tmp_path: Path, undisturbed: tuple[Path, TuneResult]
) -> None:
    """Each call is interrupted in its second iteration, and left as a killed process leaves it."""
    calls = 0
    while True:
        backend = FakeBackend(scripted={1: KeyboardInterrupt()})
        try:
            result = search(tmp_path, backend)
            break
        except KeyboardInterrupt:
            calls += 1
        best = read_history(tmp_path).best
        assert best is not None
        assert best_of(tmp_path) == best.id
        half = tmp_path / f".iter_{calls}.partial"
        half.mkdir()
        (half / "setting.json").write_text("{")
        (tmp_path / f"iter_{calls}").mkdir()
    assert settings_of(tmp_path) == settings_of(undisturbed[0])
    assert result.category == undisturbed[1].category
    assert best_of(tmp_path) == best_of(undisturbed[0])
    assert not list(tmp_path.glob(".*.partial"))


def test_a_crash_leaves_the_best_model(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        search(tmp_path, FakeBackend(scripted={3: ZeroDivisionError()}))
    assert best_of(tmp_path) == 2
    assert search(tmp_path, budget=Budget(1)).history.iterations[-1].id == 3


def test_a_budget_of_iterations_is_of_one_call(tmp_path: Path) -> None:
    first = search(tmp_path, budget=Budget(3))
    assert (first.category, first.iterations_run) == ("budget_reached", 3)
    assert "Category: budget_reached" in (tmp_path / "final_report.md").read_text()
    second = search(tmp_path, budget=Budget(2))
    assert second.iterations_run == 2
    assert [row.id for row in second.history.iterations] == [0, 1, 2, 3, 4]


def test_a_budget_is_spent_though_nothing_is_owed(tmp_path: Path) -> None:
    """Every step loses a little, so that coverage is exhausted early."""

    def worse(setting: Any) -> float:
        return response(setting) if setting.iteration_id < 4 else 0.5 - setting.iteration_id / 100

    assert search(tmp_path / "free", FakeBackend(score=worse)).category == "coverage_exhausted"
    free = len(settings_of(tmp_path / "free"))
    spent = search(tmp_path / "paid", FakeBackend(score=worse), budget=Budget(free + 6))
    assert (spent.category, spent.iterations_run) == ("budget_reached", free + 6)


def test_a_budget_of_time_begins_nothing_that_ends_later(tmp_path: Path) -> None:
    backend = FakeBackend()
    result = search(tmp_path, backend, budget=Budget(seconds=1000))
    assert result.category == "budget_reached"
    assert 600 < backend.seconds <= 1000


def test_the_target_stops_it(tmp_path: Path) -> None:
    result = search(tmp_path, FakeBackend(target=0.74), budget=Budget(30))
    assert (result.category, result.iterations_run) == ("target_reached", 3)
    again = search(tmp_path, FakeBackend(target=0.74), budget=Budget(30))
    assert (again.category, again.iterations_run) == ("target_reached", 0)
    higher = search(tmp_path, FakeBackend(target=0.745), budget=Budget(30))
    assert higher.category == "target_reached"


def test_a_plateau_stops_it_and_can_be_ignored(tmp_path: Path) -> None:
    flat = FakeBackend(score=lambda setting: 0.7)
    result = search(tmp_path, flat, budget=Budget(9))
    assert (result.category, result.iterations_run) == ("plateau", 4)
    again = search(tmp_path, flat, budget=Budget(9))
    assert (again.category, again.iterations_run) == ("plateau", 0)
    on = search(tmp_path, flat, budget=Budget(9), ignore_plateau=True)
    assert (on.category, on.iterations_run) == ("budget_reached", 9)


def out_of_memory() -> IterationError:
    return IterationError("out of memory", "take a smaller batch")


def test_a_failed_iteration_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    result = search(tmp_path, FakeBackend(scripted={2: out_of_memory()}), budget=Budget(8))
    assert [row.id for row in result.history.failed] == [2]
    assert result.iterations_run == 8
    hint = result.comparison.comparison.to_json()["next_step_hint"]
    assert "--output-dir" in hint["failed_iterations"][0]["retry_command"]


def test_two_failures_alike_at_the_baseline_end_it(tmp_path: Path) -> None:
    broken = {number: out_of_memory() for number in range(9)}
    backend = FakeBackend(scripted=broken)
    with pytest.raises(IterationError, match="out of memory") as error:
        search(tmp_path, backend)
    assert len(backend.runs) == 2
    assert error.value.hint == "take a smaller batch"
    assert not (tmp_path / "best").exists()
    # What failed is tried again once the cause is fixed, in its own folder.
    result = search(tmp_path, budget=Budget(3))
    # The two count no second time.
    assert [row.id for row in result.history.iterations] == [0, 1, 2, 3, 4]
    assert result.iterations_run == 5
    assert not result.history.failed


def illegal() -> IterationError:
    return IterationError("op 'Conv_0': a shift by -1", "take another calib_algorithm")


def test_a_calibration_whose_model_is_illegal_is_a_try_and_the_next_one_is_taken(
    tmp_path: Path,
) -> None:
    backend = FakeBackend(scripted={0: illegal(), 1: illegal()}, stage="check model")
    result = search(tmp_path, backend, budget=Budget(4))
    assert [row.id for row in result.history.failed] == [0, 1]
    assert len({setting_key(setting) for setting in backend.runs}) == 4
    assert result.history.best is not None


def test_a_search_whose_calibrations_are_all_illegal_ends_and_may_be_tried_again(
    tmp_path: Path,
) -> None:
    def all_illegal() -> FakeBackend:
        return FakeBackend(scripted=dict.fromkeys(range(99), illegal()), stage="check model")

    with pytest.raises(IterationError, match="no iteration has a score"):
        search(tmp_path, all_illegal(), budget=Budget(2))
    # Not the same two again.
    rest = all_illegal()
    with pytest.raises(IterationError, match="no calibration makes a model") as error:
        search(tmp_path, rest)
    assert [setting.iteration_id for setting in rest.runs] == [2, 3]
    assert "preprocessed" in error.value.hint
    # Whoever fixes the contract begins anew.
    result = search(tmp_path, budget=Budget(4))
    assert [row.id for row in result.history.iterations][:2] == [0, 1]
    assert 0 in {row.id for row in result.history.scored}


def test_a_fault_of_the_contract_ends_a_search_that_has_scores(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="too few"):
        search(tmp_path, FakeBackend(scripted={2: ContractError("too few batches")}))


def test_failures_with_different_causes_do_not(tmp_path: Path) -> None:
    scripted = {number: IterationError(f"cause {number}") for number in range(3)}
    result = search(tmp_path, FakeBackend(scripted=scripted), budget=Budget(5))
    assert len(result.history.failed) == 3


def test_the_same_failure_again_and_again_ends_it_later_too(tmp_path: Path) -> None:
    scripted = {number: out_of_memory() for number in range(5, 30)}
    backend = FakeBackend(scripted=scripted)
    with pytest.raises(IterationError):
        search(tmp_path, backend)
    assert len(backend.runs) == 7
    assert (tmp_path / "best").is_dir()


def test_nothing_with_a_score_is_an_error(tmp_path: Path) -> None:
    scripted = {number: IterationError(f"cause {number}") for number in range(9)}
    with pytest.raises(IterationError, match="no iteration has a score"):
        search(tmp_path, FakeBackend(scripted=scripted), budget=Budget(4))


def test_a_failure_that_leaves_no_folder_ends_it(tmp_path: Path) -> None:
    class Refusing(FakeBackend):
        def run(self, setting: Any, folder: Path, progress: Any, **_: Any) -> IterationRecord:
            raise OutputFolderError("the folder is taken", "take another")

    with pytest.raises(OutputFolderError, match="taken"):
        search(tmp_path, Refusing())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("primary_metric", "mAP"),
        ("metric_direction", "min"),
        ("model_name", "other"),
        ("target_chip", "esp32s3"),
    ],
)
def test_the_folder_of_another_contract_is_left_alone(
    tmp_path: Path, name: str, value: str
) -> None:
    search(tmp_path, budget=Budget(1))
    for file in (tmp_path / "iter_0").glob("*.json"):
        content = json.loads(file.read_text())
        if isinstance(content, dict) and name in content:
            file.write_text(json.dumps({**content, name: value}))
    backend = FakeBackend()
    with pytest.raises(OutputFolderError, match=value):
        search(tmp_path, backend)
    assert backend.runs == []


def test_a_moved_contract_is_named(tmp_path: Path) -> None:
    class Moved(FakeBackend):
        @property
        def facts(self) -> Any:
            from dataclasses import replace

            return replace(super().facts, contract_path="/new/user_quant.py")

    search(tmp_path, budget=Budget(1))
    index = tmp_path / "iter_0/iteration_index.json"
    index.write_text(
        json.dumps({**json.loads(index.read_text()), "contract_path": "/old/user_quant.py"})
    )
    told: list[str] = []

    class Listen(Observer):
        def notice(self, text: str) -> None:
            told.append(text)

    tune(Moved(), tmp_path, TuneOptions(Budget(1)), observer=Listen())
    assert "/old/user_quant.py" in told[0]


def test_a_fault_of_the_contract_ends_it_at_the_first_iteration(tmp_path: Path) -> None:
    wrong = FakeBackend(scripted={0: ContractError("no 'top1'", "return it")})
    with pytest.raises(ContractError, match="no 'top1'") as caught:
        search(tmp_path, wrong)
    assert caught.value.exit_code == 3
    assert len(wrong.runs) == 1
    # The same command goes on once it is fixed, with the iteration that failed.
    assert search(tmp_path, budget=Budget(2)).history.iterations[0].value is not None


def test_what_a_reader_may_miss_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []

    class Listen(Observer):
        def notice(self, text: str) -> None:
            told.append(text)

    lossless = FakeBackend(score=lambda setting: FLOAT)
    tune(lossless, tmp_path, TuneOptions(Budget(3)), observer=Listen())
    assert [text.split(",")[0] for text in told] == [f"iter_0 scored top1 {FLOAT}"]
    assert "nothing is left to gain" in told[0]


def test_an_iteration_of_another_chip_is_told_and_not_counted(tmp_path: Path) -> None:
    search(tmp_path, budget=Budget(2))
    write_run(tmp_path, run(2, 0.99), target_chip="esp32s3")
    told: list[str] = []

    class Listen(Observer):
        def notice(self, text: str) -> None:
            told.append(text)

    tune(FakeBackend(), tmp_path, TuneOptions(Budget(1)), observer=Listen())
    assert any("iter_2 is excluded" in text for text in told)
    assert [row.id for row in read_history(tmp_path).iterations] == [0, 1, 3]
    assert best_of(tmp_path) != 2


def test_a_half_written_folder_keeps_its_number(tmp_path: Path) -> None:
    search(tmp_path, budget=Budget(2))
    (tmp_path / "iter_2").mkdir()
    (tmp_path / "iter_2/console.log").write_text("killed")
    result = search(tmp_path, budget=Budget(1))
    assert [row.id for row in result.history.iterations] == [0, 1, 3]
    assert (tmp_path / "iter_2/console.log").exists()


def _try(outputs: str, answer: Any) -> None:
    try:
        search(Path(outputs), budget=Budget(1))
        answer.send("ran")
    except OutputFolderError as error:
        answer.send(error.cause)


def test_a_second_search_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with locked(tmp_path):
        process = context.Process(target=_try, args=(str(tmp_path), there))
        process.start()
        told = here.recv()
        process.join()
    assert "in use by process" in told


def test_the_folder_is_held_between_iterations(tmp_path: Path) -> None:
    held = []

    class Look(Observer):
        def iteration_ended(self, row: Any, history: Any) -> None:
            held.append((tmp_path / ".lock.json").exists())

    tune(FakeBackend(), tmp_path, TuneOptions(Budget(2)), observer=Look())
    assert held == [True, True]
    assert not (tmp_path / ".lock.json").exists()


def test_the_plan_is_refined_as_times_are_measured(tmp_path: Path) -> None:
    plans: list[list[str]] = []

    class Read(Observer):
        def planned(self, plan: Any) -> None:
            plans.append(plan.lines())

    backend = FakeBackend()
    tune(backend, tmp_path, TuneOptions(Budget(6)), observer=Read(), clock=backend.clock)
    # Later ones come where the pace of an iteration has changed much.
    fresh, measured, trained, *later = plans
    assert len(later) <= 3
    assert fresh[0] == "  baseline: 1 iteration"
    assert "known once the baseline has run" in fresh[-1]
    assert "3 iterations, at least 3 min 0 s" in measured[0]
    assert "2 iterations, about 4 min 0 s" in trained[0]
    plans.clear()
    tune(backend, tmp_path, TuneOptions(Budget(1)), observer=Read(), clock=backend.clock)
    assert len(plans) == 1
    assert "sweep" not in plans[0][0]


def test_the_gap_is_the_share_of_the_drop_that_came_back(tmp_path: Path) -> None:
    result = search(tmp_path, budget=Budget(2))
    first, second = result.history.iterations
    assert result.history.gap_closed == pytest.approx(
        (known(second.value) - known(first.value)) / (FLOAT - known(first.value))
    )


@pytest.mark.parametrize("stage", ["examine the contract", "score float model"])
def test_what_no_setting_can_change_ends_it_at_once(tmp_path: Path, stage: str) -> None:
    wrong = FakeBackend(scripted=dict.fromkeys(range(9), IterationError("no op")), stage=stage)
    with pytest.raises(IterationError, match="no op") as caught:
        search(tmp_path, wrong)
    assert len(wrong.runs) == 1
    assert caught.value.cause == "no op"
