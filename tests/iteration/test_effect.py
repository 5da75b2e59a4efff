"""An iteration with the quantized graph of an earlier one ends there and counts for nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import load_contract
from espdl_quantize.core import NoProgress, read_json
from espdl_quantize.iteration import Prepared, RunOptions, run_iteration
from espdl_quantize.record import IterationRecord, read_history, read_record
from espdl_quantize.record.files import MODEL
from espdl_quantize.report import compare
from espdl_quantize.search import DEFAULT_THRESHOLDS, SearchState, decide, plateau
from espdl_quantize.setting import Setting, baseline
from tests.contracts import CONFIG, write_contract
from tests.search.made_runs import make, run, swept, trained

ALIGNED = make(fusion_alignment={"align_elementwise_to": "Align to Output"})
SPLIT = {"enabled": True, "interested_layers": ["/0/Conv"], "value_threshold": 99.0}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prepared, Path]]:
    """A contract whose baseline has run, and iter_1, lest a test that runs without the first one
    leaves a gap."""
    folder = tmp_path_factory.mktemp("effect")
    contract = load_contract(write_contract(folder), ["esp32s3"])
    with Prepared(contract) as opened:
        run_at((opened, folder), 0, baseline())
        run_at((opened, folder), 1, ALIGNED)
        yield opened, folder


def run_at(
    prepared: tuple[Prepared, Path], number: int, setting: Setting, **changed: Any
) -> IterationRecord:
    opened, folder = prepared
    options = RunOptions(overwrite=True, **changed)
    place = folder / f"outputs/iter_{number}"
    return run_iteration(opened.contract, setting, place, options, NoProgress(), opened)


def first_conv(folder: Path) -> str:
    ops = read_json(folder / "outputs/iter_0/simplified_ops.json")["ops"]
    return str(next(op["name"] for op in ops if op["op_type"] == "Conv"))


def test_the_same_setting_of_esp_ppq_is_not_quantized_again(
    prepared: tuple[Prepared, Path],
) -> None:
    extra = {"equalization_setting.iterations": 3}  # of a pass that is off: another esp-ppq setting
    record = run_at(prepared, 1, ALIGNED)
    assert (record.status, record.same_as, record.value) == ("no effect", 0, None)
    assert "quantize" not in record.elapsed_by_stage
    record = run_at(prepared, 1, make(extra=extra))
    assert "quantize" in record.elapsed_by_stage
    assert (record.status, record.same_as) == ("no effect", 0)


def test_the_same_graph_is_neither_analysed_nor_scored(prepared: tuple[Prepared, Path]) -> None:
    folder = prepared[1]
    split = {**SPLIT, "interested_layers": [first_conv(folder)]}
    record = run_at(prepared, 2, make(weight_split=split))
    assert (record.status, record.same_as, record.model_path) == ("no effect", 0, None)
    assert {"analyse", "export", "evaluate"}.isdisjoint(record.elapsed_by_stage)
    place = folder / "outputs/iter_2"
    assert not (place / MODEL).exists()
    assert read_record(place) == record
    history = read_history(folder / "outputs")
    assert [row.id for row in history.failed] == []
    assert 2 not in [row.id for row in (*history.scored, *history.effective)]
    assert not history.warnings
    comparison = compare(folder / "outputs").comparison
    entry = next(row for row in comparison.iterations if row.iteration_id == 2)
    assert (entry.status, entry.outcome, entry.same_as) == ("no effect", "no effect", 0)
    assert "the same quantized graph as iter_0" in entry.changed


def test_another_graph_or_another_seed_runs_to_its_end(prepared: tuple[Prepared, Path]) -> None:
    split = {**SPLIT, "interested_layers": [first_conv(prepared[1])], "value_threshold": 0.01}
    record = run_at(prepared, 3, make(weight_split=split))
    assert (record.status, record.same_as) == ("ok", None)
    told = run_at(prepared, 4, baseline(), stop_without_effect=False)
    assert (told.status, told.same_as) == ("ok", None)
    other = run_at(prepared, 5, baseline(), seed=1)
    assert "quantize" in other.elapsed_by_stage  # calibration draws nothing: the graph is the same
    assert other.same_as == 0


def test_the_analyses_read_no_more_than_enough_but_what_the_contract_says(
    prepared: tuple[Prepared, Path], tmp_path: Path
) -> None:
    unstated = {name: value for name, value in CONFIG.items() if name != "analyse_steps"}
    silent = load_contract(write_contract(tmp_path, config=unstated), ["esp32s3"])
    sizes = 16  # of each of its four batches
    with Prepared(silent) as opened:
        whole = run_at((opened, tmp_path), 0, baseline())
        # One sample is enough, and esp-ppq reads two batches at least.
        part = run_at((opened, tmp_path), 0, baseline(), analysed=1)
        more = run_at((opened, tmp_path), 0, baseline(), analysed=33)
    analysed = [record.analysed_samples for record in (whole, part, more)]
    assert analysed == [4 * sizes, 2 * sizes, 3 * sizes]
    assert part.top_5_error_layers != whole.top_5_error_layers
    # The other contract says that two batches are read, and esp-ppq reads one more.
    stated = run_at((prepared[0], tmp_path / "stated"), 0, baseline(), analysed=1)
    assert stated.analysed_samples == 3 * sizes


def test_a_lean_iteration_is_scored_and_not_analysed(prepared: tuple[Prepared, Path]) -> None:
    record = run_at(prepared, 6, make(calib_algorithm="minmax"), analyse=False, strategy="swift")
    assert (record.status, record.top_5_error_layers) == ("ok", ())
    assert "analyse" not in record.elapsed_by_stage
    outputs = prepared[1] / "outputs"
    assert read_record(outputs / "iter_6").strategy == "swift"
    assert compare(outputs).state.is_swift
    assert not [warning for warning in read_history(outputs).warnings if "iter_6" in warning.text]
    (outputs / "iter_6").rename(outputs.parent / "lean")


def test_an_iteration_run_again_in_place_is_not_held_against_later_ones(
    prepared: tuple[Prepared, Path],
) -> None:
    assert run_at(prepared, 0, baseline()).status == "ok"


def idle(number: int, setting: Setting) -> Any:
    return replace(run(number, 1.0, setting), value=None, same_as=2)


def test_no_effect_counts_neither_for_the_cap_nor_for_a_plateau() -> None:
    losing = [
        (0.5, trained(bias_correct={"enabled": True, "steps": 10 + step})) for step in range(4)
    ]
    past = swept(0.5, 0.6, 0.7, 0.65, rest=tuple(losing))
    rows = (*past.iterations, idle(8, trained("mse", extra={"n": 1})))
    state = SearchState.of(replace(past, iterations=rows))
    assert decide(state).phase != "phase-5-agent-driven"
    flat = swept(0.5, 0.7, 0.7, 0.65)
    rows = (*flat.iterations, *(idle(n, trained("mse", extra={"n": n})) for n in (4, 5, 6)))
    assert plateau(replace(flat, iterations=rows), DEFAULT_THRESHOLDS) == ()


def test_a_setting_without_effect_is_not_proposed_again() -> None:
    past = swept(0.5, 0.6, 0.7, 0.65)
    setting = trained("mse", bias_correct={"enabled": True, "steps": 32, "block_size": 4})
    rows = (*past.iterations, idle(4, setting))
    state = SearchState.of(replace(past, iterations=rows))
    assert not state.is_new(setting)
    assert "3b" not in state.levers[0]
