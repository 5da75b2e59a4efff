"""The head of a search on Ray: begins iterations, and puts what they came to into its folder.

A worker is an actor with a scratch folder on its node, see
:mod:`espdl_quantize.tuning.ray.worker`. What an iteration came to arrives as bytes, and this
process alone puts it into the output folder. An iteration whose worker or node is lost runs again
on another, within limits.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar

from espdl_quantize.contract import NO_OVERRIDES, Overrides, require_file
from espdl_quantize.core import (
    EspdlQuantizeError,
    InstallationError,
    IterationError,
    Json,
    OutputFolderError,
    Progress,
    Stage,
    UsageError,
    describe_seconds,
)
from espdl_quantize.iteration import RunOptions, first_draft, numbered, record_crash
from espdl_quantize.record import (
    IterationRecord,
    locked,
    read_history,
    read_record,
    staged,
)
from espdl_quantize.record.files import INDEX
from espdl_quantize.search import TimeModel
from espdl_quantize.setting import Setting
from espdl_quantize.tuning._backend import BackendFacts
from espdl_quantize.tuning.ray.cluster import Cluster
from espdl_quantize.tuning.ray.crew import Crew
from espdl_quantize.tuning.ray.tasks import STARTS, WAITS, Task, Worker
from espdl_quantize.tuning.ray.worker import (
    TOKEN,
    Handover,
    Outfit,
    RayWorker,
    stamps_of,
    threads_here,
    write_whole,
)

ATTEMPTS = 3
"""How often an iteration is begun whose worker is lost, before it counts as failed."""

PATIENCE = 30.0
"""Seconds that an iteration waits for a worker of its own before an idle one takes it."""

LONGEST_QUEUE = 600.0
"""Seconds that the first worker waits for its place on nodes that do other things, too."""

_TICK = 1.0
"""Seconds between two looks at what is running."""


class RayBackend:
    """Runs several iterations at once on Ray; see :class:`~espdl_quantize.tuning.ParallelBackend`.

    Use it as a context manager: at its end, nothing of it is left on any node.

    Args:
        contract: the user's module; on every node at the same path, or packed by Ray.
        options: how every iteration runs.
        slots: iterations at once, at most.
        address: of a cluster that is there; None starts a local Ray, which ends with this.
        limit: seconds that one iteration may take; None for what was measured before.
        overrides: what holds in place of the contract's own.
        shares: let workers that see this machine's file system use it.

    Raises:
        ContractError: there is no such file.
        InstallationError: Ray is not installed, or cannot be reached.
        UsageError: ``slots`` is not positive.
    """

    worker_type: ClassVar[type[RayWorker]] = RayWorker

    def __init__(
        self,
        contract: Path,
        options: RunOptions | None = None,
        *,
        slots: int,
        address: str | None = None,
        limit: float | None = None,
        overrides: Overrides = NO_OVERRIDES,
        shares: bool = True,
    ) -> None:
        if not _is_count(slots):
            raise UsageError(
                f"the number of iterations at once is {slots!r}", "give a whole number of 1 or more"
            )
        self._contract = require_file(contract)
        self._options = options or RunOptions()
        self._scratch = tempfile.TemporaryDirectory(prefix="espdl-quantize-")
        self._token = secrets.token_hex(16) if shares else ""
        (Path(self._scratch.name) / TOKEN).write_text(self._token, encoding="ascii")
        try:
            self._cluster = Cluster(self._contract, address)
        except BaseException:
            self._scratch.cleanup()
            raise
        outfit = Outfit(
            contract=str(self._contract),
            options=asdict(self._options),
            limit=limit,
            overrides=asdict(overrides),
            environment=threads_here(),
            scratch=self._scratch.name,
            token=self._token,
            version=_version(),
        )
        self._crew = Crew(self._cluster, int(slots), self.worker_type, outfit)
        self._outputs: Path | None = None
        self._tasks: list[Task] = []
        self._facts: BackendFacts | None = None
        self._notices: list[str] = list(self._cluster.notices)

    def __enter__(self) -> RayBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, and the Ray that was started for them."""
        self.cancel()
        self._crew.dismiss_all()
        self._cluster.close()
        self._scratch.cleanup()

    @property
    def slots(self) -> int:
        """How many iterations may run at once: as many as wanted, and as have room."""
        return self._crew.slots

    @property
    def facts(self) -> BackendFacts:
        """What the contract says; starts a worker.

        Raises:
            ContractError: it does not load, or breaks the contract.
            InstallationError: a node lacks something.
        """
        if self._facts is None:
            facts = self._open()
            if facts.device != "cpu":
                self._crew.compute_on_gpus()
            full = facts.final_by == "evaluate" and self._options.full_eval
            self._facts = replace(
                facts,
                contract_path=str(self._contract),
                final_by=None if full else facts.final_by,
            )
        return self._facts

    def _open(self) -> BackendFacts:
        """Load the contract on a worker; on another, where that is lost."""
        causes: list[str] = []
        while len(causes) < ATTEMPTS:
            worker = self._crew.idle() or self._crew.hire()
            try:
                facts, error = self._ask(worker)
            except self._cluster.lost as lost:
                self._crew.dismiss(worker)
                causes.append(_first_line(lost))
            except self._cluster.broken as broken:
                raise _broken(broken) from broken
            else:
                if error is not None:
                    raise EspdlQuantizeError.from_json(error)
                assert facts is not None
                return facts
        raise InstallationError(
            f"the first worker on Ray was lost {ATTEMPTS} times: {causes[-1]}",
            "see that espdl-quantize is installed on every node",
        )

    def _ask(self, worker: Worker) -> tuple[BackendFacts | None, Json | None]:
        ray = self._cluster.ray
        placed, _ = ray.wait([worker.actor.state.remote()], timeout=LONGEST_QUEUE)
        if not placed:
            raise InstallationError(
                f"Ray has found no place for the first worker in "
                f"{describe_seconds(LONGEST_QUEUE)}: it takes {worker.share}, and the nodes "
                f"have {self._cluster}, other work on them included",
                "see `ray status` for what holds them, and run the same command again",
            )
        answer: tuple[BackendFacts | None, Json | None] = ray.get(worker.actor.open.remote())
        return answer

    def start(self, setting: Setting, folder: Path, **changed: Any) -> None:
        """Begin an iteration."""
        folder = folder.resolve()
        folder.parent.mkdir(parents=True, exist_ok=True)
        estimate = TimeModel(read_history(folder.parent)).estimate(setting)
        seconds = None if estimate is None else estimate.seconds
        self._begin(Task(numbered(setting, folder), folder, changed, seconds))

    def run(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run one iteration, and nothing beside it."""
        self.start(setting, folder, **changed)
        _, error = self.wait(progress)
        if error is not None:
            raise error
        return read_record(folder)

    def run_auxiliary(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run beside the search."""
        task = Task(setting, folder.resolve(), changed, None, is_auxiliary=True)
        self._begin(task)
        _, error = self._wait_for(progress, lambda _: None)
        if error is not None:
            raise error
        return read_record(folder)

    def wait(
        self, progress: Progress, notice: Callable[[str], None] = lambda _: None
    ) -> tuple[int, EspdlQuantizeError | None]:
        """Wait for the first iteration to end, and put it into its place."""
        number, error = self._wait_for(progress, notice)
        self._crew.dismiss_idle()
        return number, error

    def cancel(self) -> None:
        """End what is running at once; its workers go with it."""
        for task in self._tasks:
            if task.worker is not None:
                self._crew.dismiss(task.worker)
        self._tasks.clear()

    def _wait_for(
        self, progress: Progress, notice: Callable[[str], None]
    ) -> tuple[int, EspdlQuantizeError | None]:
        ray, running = self._cluster.ray, len(self._tasks)
        with progress.stage(f"{running} iteration{'s' if running > 1 else ''} on Ray"):
            while True:
                while self._notices:
                    notice(self._notices.pop(0))
                answers = {task.answer: task for task in self._tasks}
                ended, _ = ray.wait(list(answers), num_returns=1, timeout=_TICK)
                if not ended:
                    self._look(progress)
                    continue
                task = answers[ended[0]]
                try:
                    handover: Handover = ray.get(ended[0])
                except self._cluster.lost as lost:
                    outcome = self._again(task, lost)
                    if outcome is None:
                        continue
                except self._cluster.broken as broken:
                    raise _broken(broken) from broken
                else:
                    outcome = self._publish(task, handover)
                self._release(task)
                return outcome

    def _begin(self, task: Task) -> None:
        outputs = task.folder.parent if not task.is_auxiliary else Path(task.changed["home"])
        self._outputs = outputs
        self._tasks.append(task)
        self._send(task)

    def _send(self, task: Task) -> None:
        worker = self._crew.idle() or self._crew.hire()
        worker.task, task.worker = task, worker
        task.attempts += 1
        task.since, task.asked, task.place = time.monotonic(), None, WAITS
        assert self._outputs is not None
        files = self._crew.news(worker, self._outputs, reuse=self._carries_reuse)
        place = task.folder.relative_to(self._outputs).as_posix()
        # As the worker process takes it: what is not set stays so.
        setting = task.setting.model_dump(exclude_unset=True)
        task.answer = worker.actor.run.remote(
            str(self._outputs), place, setting, files, task.changed
        )

    def _again(
        self, task: Task, lost: BaseException
    ) -> tuple[int, EspdlQuantizeError | None] | None:
        """Run an iteration once more whose worker was lost; None where that is under way."""
        worker, cause = task.worker, _first_line(lost)
        assert worker is not None
        self._crew.dismiss(worker)
        if isinstance(lost, self._cluster.ray.exceptions.OutOfMemoryError):
            # As without Ray: once more, in less memory and with the same results.
            task.changed = {**task.changed, "reduced_memory": True}
        if task.attempts < ATTEMPTS:
            self._notices.append(
                f"the worker of {task.folder.name} was lost ({task.place}): {cause}; it runs again "
                f"on another, attempt {task.attempts + 1} of {ATTEMPTS}"
            )
            self._send(task)
            return None
        failure = IterationError(
            f"its worker was lost {ATTEMPTS} times (while: {task.place}): {cause}",
            "see what ends processes on the nodes, such as memory; then run it again",
        )
        if not task.is_auxiliary:
            options = {**asdict(self._options), **task.changed}
            with locked(task.folder.parent), self._staged(task) as staging:
                record_crash(
                    staging,
                    task.setting,
                    first_draft(task.setting, asdict(self.facts), options),
                    stage=Stage.START,
                    failure=failure,
                    elapsed=time.monotonic() - task.since,
                    seconds={},
                )
        return task.number, failure

    def _publish(self, task: Task, handover: Handover) -> tuple[int, EspdlQuantizeError | None]:
        """Put what a worker has handed over into its place: the one place that writes."""
        assert self._outputs is not None
        error = None if handover.error is None else EspdlQuantizeError.from_json(handover.error)
        try:
            write_whole(self._outputs, handover.shared)
            if handover.files:
                with locked(task.folder.parent), self._staged(task) as staging:
                    write_whole(staging, handover.files)
                    self._correct(staging)
        except OSError as failed:
            raise OutputFolderError(
                f"{task.folder} cannot be written: {failed.strerror or failed}",
                "free some space, or see who may write there, and run the same command again",
            ) from failed
        if task.worker is not None:
            # It has what it made.
            task.worker.has |= stamps_of(self._outputs, reuse=False, only=task.folder)
        notice = self._crew.measure(handover.peak)
        self._notices += [notice] if notice else []
        return task.number, error

    def _staged(self, task: Task) -> contextlib.AbstractContextManager[Path]:
        task.folder.parent.mkdir(parents=True, exist_ok=True)
        overwrite = task.is_auxiliary or self._options.overwrite
        return staged(task.folder, overwrite=overwrite)

    def _correct(self, staging: Path) -> None:
        """Name the contract as the head does, where it was packed."""
        if (staging / INDEX).is_file():
            record = read_record(staging)
            if record.contract_path is not None and record.contract_path != str(self._contract):
                replace(record, contract_path=str(self._contract)).write(staging)

    def _release(self, task: Task) -> None:
        self._tasks.remove(task)
        if task.worker is not None:
            task.worker.task = None
        # Before the search begins something else on it.
        self._take_over()

    @property
    def _carries_reuse(self) -> bool:
        """Whether the results of long passes go through this process."""
        return not self._token and self._options.reuse

    def _look(self, progress: Progress) -> None:
        """See how far everything is, and say so where something takes too long."""
        ray, now = self._cluster.ray, time.monotonic()
        for task in self._tasks:
            assert task.worker is not None
            if task.asked is None:
                task.asked = task.worker.actor.state.remote()
            ready, _ = ray.wait([task.asked], timeout=0)
            if ready:
                with contextlib.suppress(*self._cluster.lost):
                    place, task.fraction = ray.get(task.asked)
                    task.place = place or (STARTS if task.place == WAITS else task.place)
                task.asked = None
            slow = task.is_slow(now)
            if slow is not None:
                self._notices.append(slow)
        self._take_over()
        progress.update(0, None, "; ".join(map(str, self._tasks)))

    def _take_over(self) -> None:
        """Give iterations to idle workers whose own find no place.

        Where a node was lost, idle workers may hold all that is left.
        """
        now = time.monotonic()
        for task in [task for task in self._tasks if task.waits_at(now - PATIENCE)]:
            worker = task.worker
            if worker is None or self._crew.idle() is None:
                return
            if self._is_placed(worker):
                # It has not been asked in the meantime.
                task.place = STARTS
                continue
            self._crew.dismiss(worker)
            # It has not begun.
            task.attempts -= 1
            self._send(task)

    def _is_placed(self, worker: Worker) -> bool:
        """Tell whether a worker has come to life; one that was lost says so elsewhere."""
        answered, _ = self._cluster.ray.wait([worker.actor.state.remote()], timeout=_TICK)
        return bool(answered)


def _is_count(value: object) -> bool:
    """Tell whether a value, which a notebook may give anything for, is a number to count to."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _broken(error: BaseException) -> InstallationError:
    return InstallationError(
        f"Ray cannot go on: {_first_line(error)}",
        "see `ray status` and the logs of its nodes, and run the same command again",
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _version() -> str:
    from espdl_quantize import __version__

    return __version__
