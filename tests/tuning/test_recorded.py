import json
import zipfile
from pathlib import Path

import pytest

from espdl_quantize.core import OutputFolderError, SettingError
from espdl_quantize.record import VariableStats, load_evidence, read_history
from espdl_quantize.search import find_triggers, sweep_setting
from espdl_quantize.search.policies import POLICIES
from espdl_quantize.setting import Setting, baseline, setting_key
from espdl_quantize.tuning import Budget, RecordedBackend, TuneOptions, pack, record, tune
from tests.search.made_runs import EQUALIZED, evidence, history, known, run, trained, write_history
from tests.tuning.fake_backend import FakeBackend, response

SETTINGS = [
    baseline(),
    sweep_setting("kl"),
    sweep_setting("mse"),
    sweep_setting("percentile"),
    trained("mse", bias_correct={"enabled": True, "block_size": 4, "steps": 32}),
    trained("mse", equalization=EQUALIZED),
    trained("percentile", equalization=EQUALIZED),
    trained("mse", dispatching_table=[{"op": "conv0", "bits": 16}]),
    trained("mse", dispatching_table=[{"op": "conv1", "bits": 16}]),
    trained("percentile", equalization=EQUALIZED, dispatching_table=[{"op": "conv0", "bits": 16}]),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    assert record(FakeBackend(), SETTINGS, made) == len(SETTINGS)
    assert pack([made], tmp_path / "table.zip") == len(SETTINGS)
    return tmp_path / "table.zip"


@pytest.mark.parametrize("policy", list(POLICIES))
def test_every_policy_finds_the_best_recorded_setting(
    table: Path, tmp_path: Path, policy: str
) -> None:
    backend = RecordedBackend(table)
    options = TuneOptions(Budget(30), policy=policy, ignore_plateau=True)
    result = tune(backend, tmp_path / "outputs", options, clock=backend.clock)
    assert {setting_key(known(row.setting)) for row in result.history.iterations} == set(
        backend.table.settings
    )
    assert known(result.history.best).value == max(map(response, SETTINGS))
    assert result.category == "coverage_exhausted"
    assert "nothing gained lately" in result.detail


def test_time_is_that_of_the_recording(table: Path, tmp_path: Path) -> None:
    backend = RecordedBackend(table)
    options = TuneOptions(Budget(seconds=500))
    result = tune(backend, tmp_path / "outputs", options, clock=backend.clock)
    assert result.category == "budget_reached"
    assert 300 < backend.clock() <= 500


def test_a_setting_that_was_not_recorded(table: Path, tmp_path: Path) -> None:
    backend = RecordedBackend(table, unknown="error")
    assert backend.facts.pool is None
    with pytest.raises(SettingError, match=r"no recording of this setting: mse \+ tqt"):
        tune(backend, tmp_path / "outputs", TuneOptions(Budget(30)))
    assert (tmp_path / "outputs/best").is_dir()


def test_a_replayed_iteration_reads_as_the_recorded_one(table: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    tune(RecordedBackend(table), outputs, TuneOptions(Budget(3)))
    for row in read_history(outputs).iterations:
        original = next(
            one
            for one in read_history(tmp_path / "made").iterations
            if setting_key(known(one.setting)) == setting_key(known(row.setting))
        )
        assert load_evidence(row) == load_evidence(original)
        assert (row.value, row.elapsed_seconds) == (original.value, original.elapsed_seconds)
        assert row.rationale == known(row.setting).rationale != ""


def test_histograms_stay_where_a_trigger_reads_them(tmp_path: Path) -> None:
    peaks = (9.0, 1.0, 0.0, 1.0, 9.0)
    found = evidence(
        stats=(
            VariableStats("conv0", "Conv", "x0", is_input=True, float_hist=peaks),
            VariableStats("conv0", "Conv", "x1", is_output=True, float_hist=peaks),
            VariableStats("relu", "Relu", "x9", is_input=True, float_hist=peaks),
        )
    )
    made = write_history(tmp_path / "made", history(run(0, 0.5)), found)
    pack([made], tmp_path / "table.zip")
    outputs = tmp_path / "outputs"
    tune(RecordedBackend(tmp_path / "table.zip"), outputs, TuneOptions(Budget(1)))
    replayed = load_evidence(read_history(outputs).iterations[0])
    assert [bool(row.float_hist) for row in replayed.stats] == [True, False, False]
    assert find_triggers(replayed) == find_triggers(found) != []


def test_recording_goes_on_where_it_stopped(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        record(FakeBackend(scripted={2: KeyboardInterrupt()}), SETTINGS, made)
    assert record(FakeBackend(), SETTINGS, made) == len(SETTINGS) - 2


def test_a_failed_iteration_is_recorded_as_failed(tmp_path: Path) -> None:
    def score(setting: Setting) -> float | None:
        return None if setting.calib_algorithm == "mse" else 0.5

    made = tmp_path / "made"
    record(FakeBackend(score=score), SETTINGS[:4], made)
    pack([made], tmp_path / "table.zip")
    outputs = tmp_path / "outputs"
    result = tune(RecordedBackend(tmp_path / "table.zip"), outputs, TuneOptions(Budget(4)))
    assert [known(row.setting).calib_algorithm for row in result.history.failed] == ["mse"]
    assert "out of memory" in str(result.history.failed[0].failure)


def test_a_table_may_be_an_unpacked_folder(table: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(table) as file:
        file.extractall(tmp_path / "unpacked")
    assert RecordedBackend(tmp_path / "unpacked").facts == RecordedBackend(table).facts


def test_packing_twice_gives_the_same_bytes(table: Path, tmp_path: Path) -> None:
    pack([tmp_path / "made", tmp_path / "made"], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == table.read_bytes()


def test_the_float_reference_travels_along(tmp_path: Path) -> None:
    made = tmp_path / "made"
    record(FakeBackend(), SETTINGS[:1], made)
    reference = {"key": "k", "scores": {"evaluate": {"primary_value": 0.8}}}
    (made / "float_reference.json").write_text(json.dumps(reference))
    pack([made], tmp_path / "table.zip")
    outputs = tmp_path / "outputs"
    tune(RecordedBackend(tmp_path / "table.zip"), outputs, TuneOptions(Budget(1)))
    assert read_history(outputs).float_scores == {"evaluate": 0.8}


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "table.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OutputFolderError):
        RecordedBackend(path)
