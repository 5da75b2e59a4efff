"""Several iterations at once: the same loop, whatever ends first."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import (
    EspdlQuantizeError,
    InstallationError,
    IterationError,
    Strategy,
    UsageError,
)
from espdl_quantize.record import read_history
from espdl_quantize.setting import Setting, setting_key
from espdl_quantize.tuning import Budget, RayBackend, RecordedBackend, TuneOptions, tune
from tests.search.made_runs import known
from tests.tuning.fake_backend import FakeBackend
from tests.tuning.test_recorded_space import TABLE

SWIFT = Strategy.SWIFT


@dataclass
class Crew(FakeBackend):
    """A made-up network on several devices, of which any may be the next to be ready."""

    slots: int = 4
    order: random.Random = field(default_factory=lambda: random.Random(0))
    begun: dict[int, tuple[Setting, Path, dict[str, Any]]] = field(default_factory=dict)
    most: int = 0
    cancelled: list[int] = field(default_factory=list)
    interrupt_at: int = -1

    def start(self, setting: Setting, folder: Path, **changed: Any) -> None:
        self.begun[setting.iteration_id] = (setting, folder, changed)
        self.most = max(self.most, len(self.begun))

    def wait(self, progress: Any, notice: Any) -> tuple[int, EspdlQuantizeError | None]:
        if len(self.runs) == self.interrupt_at:
            raise KeyboardInterrupt
        number = self.order.choice(sorted(self.begun))
        setting, folder, _ = self.begun.pop(number)
        try:
            self.run(setting, folder, progress)
        except EspdlQuantizeError as error:
            return number, error
        return number, None

    def cancel(self) -> None:
        self.cancelled += self.begun
        self.begun.clear()


def plain(outputs: Path, **options: Any) -> list[Any]:
    """The settings and scores of a search that runs one at a time."""
    history = tune(FakeBackend(), outputs, TuneOptions(**options)).history
    return [(row.id, row.value, row.setting) for row in history.iterations]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_one_at_a_time_is_the_plain_search(tmp_path: Path, strategy: Strategy) -> None:
    crew = tune(Crew(slots=1), tmp_path / "crew", TuneOptions(Budget(12), strategy=strategy))
    rows = [(row.id, row.value, row.setting) for row in crew.history.iterations]
    assert rows == plain(tmp_path / "plain", budget=Budget(12), strategy=strategy)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_any_order_of_endings_comes_to_a_good_end(
    tmp_path: Path, strategy: Strategy, seed: int
) -> None:
    one = tune(FakeBackend(), tmp_path / "one", TuneOptions(Budget(12), strategy=strategy))
    crew = Crew(order=random.Random(seed))
    several = tune(crew, tmp_path / "several", TuneOptions(Budget(12), strategy=strategy))
    rows = several.history.iterations
    assert crew.most == (3 if strategy is SWIFT else 4)
    assert len(rows) <= 12
    assert len({setting_key(known(row.setting)) for row in rows}) == len(rows)
    gains = [known(known(each.history.best).value) - 0.6 for each in (one, several)]
    # What is decided early is decided on less.
    assert gains[1] >= 0.75 * gains[0]
    assert not crew.begun


def test_the_target_ends_all_that_runs(tmp_path: Path) -> None:
    crew = Crew(target=0.72)
    result = tune(crew, tmp_path / "out", TuneOptions())
    assert result.category == "target_reached"
    assert len(crew.cancelled) == 2
    assert result.iterations_run == len(result.history.iterations) == 2
    assert not list((tmp_path / "out").glob(".iter_*"))


def test_a_budget_of_iterations_is_kept(tmp_path: Path) -> None:
    crew = Crew()
    result = tune(crew, tmp_path / "out", TuneOptions(Budget(6)))
    assert (len(crew.runs), result.category) == (6, "budget_reached")


def test_a_plateau_waits_for_what_runs(tmp_path: Path) -> None:
    crew = Crew(score=lambda setting: 0.6)
    result = tune(crew, tmp_path / "out", TuneOptions())
    assert (result.category, crew.cancelled) == ("plateau", [])


def test_an_interrupt_and_a_gap_in_the_numbers_are_gone_on_from(tmp_path: Path) -> None:
    crew = Crew(interrupt_at=3, order=random.Random(1))
    with pytest.raises(KeyboardInterrupt):
        tune(crew, tmp_path / "out", TuneOptions(Budget(9)))
    assert crew.cancelled
    ids = [row.id for row in read_history(tmp_path / "out").iterations]
    assert ids != list(range(len(ids)))
    result = tune(Crew(), tmp_path / "out", TuneOptions(Budget(6)))
    keys = [setting_key(known(row.setting)) for row in result.history.iterations]
    assert len(set(keys)) == len(keys) == 9


def test_a_failure_for_good_ends_all_that_runs(tmp_path: Path) -> None:
    crew = Crew(fault=lambda setting: IterationError("no") if setting.iteration_id else None)
    with pytest.raises(IterationError, match="failed alike"):
        tune(crew, tmp_path / "out", TuneOptions(Budget(9)))
    assert not crew.begun


def test_the_record_says_what_was_not_known(tmp_path: Path) -> None:
    backend = RecordedBackend(TABLE, slots=3)
    history = tune(backend, tmp_path, TuneOptions(Budget(5))).history
    assert [row.beside for row in history.iterations][:4] == [(), (), (1,), (1, 2)]
    assert '"beside"' not in (tmp_path / "iter_0" / "iteration_index.json").read_text()


def test_a_recording_takes_as_long_as_its_slowest(tmp_path: Path) -> None:
    one, several = RecordedBackend(TABLE), RecordedBackend(TABLE, slots=3)
    for name, backend in (("one", one), ("several", several)):
        tune(backend, tmp_path / name, TuneOptions(Budget(4)))
    assert several.busy == pytest.approx(one.clock())
    times = [row.elapsed_seconds for row in read_history(tmp_path / "one").iterations]
    assert several.clock() == pytest.approx(known(times[0]) + max(map(known, times[1:])))


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "user_quant.py").touch()
    with pytest.raises(InstallationError) as caught:
        RayBackend(tmp_path / "user_quant.py", slots=2)
    assert str(caught.value.hint) == "pip install 'espdl-quantize[ray]'"
    slots: Any
    for slots in (0, -1, True, 2.0, "2", float("nan")):
        with pytest.raises(UsageError, match="of 1 or more"):
            RayBackend(tmp_path / "user_quant.py", slots=slots)


@pytest.mark.parametrize("slots", [0, -1])
def test_a_number_of_slots_is_positive(slots: int) -> None:
    with pytest.raises(UsageError, match="give 1 or more"):
        RecordedBackend(TABLE, slots=slots)
    with pytest.raises(UsageError, match="pace"):
        RecordedBackend(TABLE, slots=2, pace=1)
