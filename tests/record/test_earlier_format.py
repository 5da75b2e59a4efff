"""An output folder of the version of November 2026 is read, ranked and continued.

``made_2026_11.zip`` is what a real search on a small network left, less the charts; its second
iteration failed, with its hint under the key of that time.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import Direction, Engine, MetricUnit, Progress
from espdl_quantize.record import (
    IterationRecord,
    iteration_folder,
    iteration_name,
    locked,
    read_history,
    read_record,
    staged,
)
from espdl_quantize.record.files import INDEX, METRICS, SETTING
from espdl_quantize.report import compare
from espdl_quantize.search import Proposal
from espdl_quantize.setting import Setting
from espdl_quantize.tuning import BackendFacts, Budget, TuneOptions, tune

RECORDED = Path(__file__).parent / "made_2026_11.zip"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    with zipfile.ZipFile(RECORDED) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "outputs"


def stated(outputs: Path, number: int) -> dict[str, object]:
    content = (iteration_folder(outputs, number) / INDEX).read_text(encoding="utf-8")
    return dict(json.loads(content))


def test_it_is_read_without_a_warning_and_ranked(outputs: Path) -> None:
    history = read_history(outputs)
    assert history.warnings == ()
    assert [each.id for each in history.scored] == [0, 2, 3]
    assert history.metric == "top1"
    assert history.direction is Direction.MAX
    values = {each.id: each.value for each in history.iterations}
    assert values == {number: stated(outputs, number)["primary_value"] for number in range(4)}
    highest = max(value for value in values.values() if value is not None)
    assert {number for number, rank in history.ranks.items() if rank == 1} == {
        number for number, value in values.items() if value == highest
    }
    assert history.best is not None
    assert history.versus(history.iterations[2], history.iterations[0]) is not None
    first = history.iterations[0]
    assert (first.metric_unit, first.sample_count, first.num_of_bits) == (MetricUnit.PERCENT, 64, 8)
    assert first.on_chip is not None
    assert first.on_chip.legal is True
    assert first.top_5_error_layers[0].op == stated(outputs, 0)["top_5_error_layers"][0]["op"]  # type: ignore[index]
    assert list(history.finals) != []


def test_its_failure_has_a_hint(outputs: Path) -> None:
    (failed,) = read_history(outputs).failed
    error = stated(outputs, 1)["error"]
    assert isinstance(error, dict)
    assert failed.failure is not None
    assert failed.failure.hint == error["mend"] != ""
    assert (failed.failure.stage, failed.failure.cause) == (error["stage"], error["cause"])


def test_a_record_that_is_written_again_says_the_same(outputs: Path, tmp_path: Path) -> None:
    for number in range(4):
        before = stated(outputs, number)
        read_record(iteration_folder(outputs, number)).write(tmp_path)
        after = json.loads((tmp_path / INDEX).read_text(encoding="utf-8"))
        error = before["error"]
        if isinstance(error, dict):
            before["error"] = {"hint": error["mend"], **error}
            del before["error"]["mend"]  # type: ignore[attr-defined]
        assert {name: after[name] for name in before} == before


@dataclass
class FakeBackend:
    """Answers every setting with what the folder recorded of its third iteration."""

    outputs: Path
    ran: int = 0

    @property
    def facts(self) -> BackendFacts:
        record = read_record(iteration_folder(self.outputs, 0))
        return BackendFacts(
            metric=record.metric,
            direction=record.direction,
            model_name=record.model_name,
            target_chip=record.target_chip,
            contract_path=record.contract_path,
            contract_key=record.contract_key,
            num_of_bits=8,
        )

    def run(self, setting: Setting, folder: Path, progress: Progress, **_: Any) -> IterationRecord:
        self.ran += 1
        with locked(folder.parent), staged(folder) as staging:
            recorded = iteration_folder(self.outputs, 2)
            shutil.copytree(recorded, staging, dirs_exist_ok=True)
            for name in (SETTING, INDEX):
                content = json.loads((recorded / name).read_text(encoding="utf-8"))
                if name == SETTING:
                    content = setting.model_dump(exclude_unset=True)
                content["iteration_id"] = setting.iteration_id
                (staging / name).write_text(json.dumps(content), encoding="utf-8")
        return read_record(folder)


def test_a_search_goes_on_in_it(outputs: Path) -> None:
    step = compare(outputs)
    assert isinstance(step.decision, Proposal)
    assert step.decision.setting.iteration_id == 4
    backend = FakeBackend(outputs)
    tune(backend, outputs, TuneOptions(Budget(1), final=False))
    assert backend.ran >= 1
    history = read_history(outputs)
    assert history.latest is not None
    assert history.latest.name == iteration_name(4)
    assert history.latest.engine in (Engine.FAST, Engine.REFERENCE)
    assert (outputs / "best" / METRICS).is_file()
