"""Iterations from a table: for tests, and for comparing policies in seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from espdl_quantize.core import (
    EspdlQuantizeError,
    IterationError,
    NoProgress,
    Progress,
    SettingError,
    Strategy,
    UsageError,
    write_json,
)
from espdl_quantize.record import (
    IterationRecord,
    iteration_folder,
    iteration_number,
    locked,
    read_history,
    record_from_json,
    staged,
)
from espdl_quantize.record.files import FLOAT_REFERENCE, INDEX, SETTING
from espdl_quantize.search import describe_setting
from espdl_quantize.setting import Setting, setting_key
from espdl_quantize.tuning._backend import Backend, BackendFacts
from espdl_quantize.tuning._table import Table


class RecordedBackend:
    """Answers with what was recorded, in the folders that the real backend leaves, less the model.

    Args:
        path: what :func:`pack` wrote.
        unknown: what a setting that is not in the table is: an "error"; or "unavailable", so that
            only the recorded ones are proposed.
        pace: replay at so many times the recorded speed; None for as fast as it goes.
        slots: run so many at once: each ends when it would have, had it run beside the others on a
            device of its own. It has no effect on what one of them comes to.

    Raises:
        OutputFolderError: ``path`` holds no recording.
        UsageError: ``pace`` or ``slots`` is not positive, or both are given.
    """

    def __init__(
        self,
        path: Path,
        *,
        unknown: Literal["error", "unavailable"] = "unavailable",
        pace: float | None = None,
        slots: int = 1,
    ) -> None:
        if pace is not None and not (math.isfinite(pace) and pace > 0):
            raise UsageError(f"the pace is {pace:g}", "give more than zero: 1 is as it was")
        if slots < 1:
            raise UsageError(f"the number of iterations at once is {slots}", "give 1 or more")
        if pace is not None and slots > 1:
            raise UsageError(
                "iterations at once are replayed by the clock of the recording",
                "leave out the pace",
            )
        self.table = Table(path)
        self.slots = slots
        self.busy = 0.0
        """Seconds of all iterations that ended, those at the same time counted each."""
        self._running: list[_Running] = []
        self._pace = pace
        self._path = path
        self._unknown = unknown
        self._seconds = 0.0

    @property
    def facts(self) -> BackendFacts:
        """What the first recorded iteration with a score says."""
        records = list(self.table.records.values())
        record = next((each for each in records if each.value is not None), records[0])
        settings = tuple(self.table.settings.values())
        return BackendFacts(
            metric=record.metric,
            direction=record.direction,
            model_name=record.model_name,
            target_chip=record.target_chip,
            contract_path=record.contract_path,
            target=record.target,
            priority=record.deploy_runtime_priority,
            num_of_bits=record.num_of_bits,
            budgets=record.budgets,
            strategy=record.strategy or Strategy.SEED,
            pool=settings if self._unknown == "unavailable" else None,
        )

    def clock(self) -> float:
        """Return the seconds that the iterations took when they were recorded."""
        return self._seconds

    def start(self, setting: Setting, folder: Path, **changed: Any) -> None:
        """Begin an iteration at the present time of the clock."""
        record = self.table.records.get(setting_key(setting))
        seconds = 0.0 if record is None else record.elapsed_seconds or 0.0
        self._running.append(_Running(self._seconds, seconds, setting, folder, changed))

    def wait(
        self, progress: Progress, notice: Callable[[str], None] = lambda _: None
    ) -> tuple[int, EspdlQuantizeError | None]:
        """Put the iteration into its place that ends first, and set the clock to its end."""
        first = min(self._running, key=lambda each: (each.ends, each.setting.iteration_id))
        self._running.remove(first)
        failure = None
        try:
            self.run(first.setting, first.folder, progress, **first.changed)
        except EspdlQuantizeError as error:
            failure = error
        self._seconds = first.ends
        return first.setting.iteration_id, failure

    def cancel(self) -> None:
        """Forget the iterations that have not ended."""
        self.busy += sum(self._seconds - each.began for each in self._running)
        self._running.clear()

    def run(
        self,
        setting: Setting,
        folder: Path,
        progress: Progress,
        *,
        strategy: Strategy | None = None,
        beside: tuple[int, ...] = (),
        **_: Any,
    ) -> IterationRecord:
        """Write the recorded iteration under this number, rationale and strategy."""
        key = setting_key(setting)
        if key not in self.table.settings:
            raise SettingError(
                f"{self._path} has no recording of this setting: {describe_setting(setting)}",
                "record it, or make the backend with unknown='unavailable'",
            )
        files = self.table.read(key)
        number = iteration_number(folder)
        number = setting.iteration_id if number is None else number
        changed = {"iteration_id": number, "rationale": setting.rationale}
        files[SETTING] = {**files[SETTING], **changed}
        files[INDEX] = {**files[INDEX], **changed}
        record = record_from_json(files[INDEX])
        if strategy is not None or beside:
            strategy = strategy or record.strategy
            record = replace(record, strategy=strategy, beside=beside)
            files[INDEX] = record.to_json()
        seconds = record.elapsed_seconds or 0.0
        with (
            progress.stage("replay"),
            locked(folder.parent),
            staged(folder) as staging,
        ):
            reference = self.table.float_reference()
            if reference is not None and not (folder.parent / FLOAT_REFERENCE).exists():
                write_json(folder.parent / FLOAT_REFERENCE, reference)
            self._wait(seconds, progress)
            for name, content in files.items():
                write_json(staging / name, content)
        self._seconds += seconds
        self.busy += seconds
        if record.failure is not None:
            raise IterationError(record.failure.cause or "failed", record.failure.hint)
        return record

    def _wait(self, seconds: float, progress: Progress) -> None:
        """Take as long as the pace says."""
        if self._pace is None:
            return
        total = seconds / self._pace
        started = time.monotonic()
        while (done := time.monotonic() - started) < total:
            progress.update(done, total)
            time.sleep(min(0.1, total - done))


@dataclass(frozen=True)
class _Running:
    began: float
    seconds: float
    setting: Setting
    folder: Path
    changed: dict[str, Any]

    @property
    def ends(self) -> float:
        return self.began + self.seconds


def record(
    backend: Backend,
    settings: list[Setting],
    outputs: Path,
    progress: Progress | None = None,
) -> int:
    """Run every setting into an output folder that :func:`pack` can take; may be run again.

    Settings that the folder has are not run again; a failed one is recorded as failed.

    Returns:
        How many were run.
    """
    outputs.mkdir(parents=True, exist_ok=True)
    count = 0
    with locked(outputs):
        for setting in settings:
            history = read_history(outputs)
            done = {setting_key(item.setting) for item in history.iterations if item.setting}
            if setting_key(setting) in done:
                continue
            number = history.next_id
            numbered = setting.model_copy(update={"iteration_id": number})
            folder = iteration_folder(outputs, number)
            try:
                backend.run(numbered, folder, progress or NoProgress())
            except IterationError:
                if not (folder / INDEX).exists():
                    raise
            count += 1
    return count
