"""Iterations at once on Ray: this process decides, numbers and writes; workers compute.

A worker is an actor with a scratch folder on its node, see
:mod:`espdl_quantize.tuning.ray_worker`. What an iteration came to arrives as bytes, and this
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
)
from espdl_quantize.core.digests import sha256_of
from espdl_quantize.iteration import RunOptions, numbered, record_crash
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
from espdl_quantize.tuning.ray_cluster import Cluster, share_of
from espdl_quantize.tuning.ray_tasks import WAITS, Task, Worker, lost_draft
from espdl_quantize.tuning.ray_worker import (
    TOKEN,
    Files,
    Handover,
    Outfit,
    RayWorker,
    stamps_of,
    threads_here,
    write_whole,
)

ATTEMPTS = 3
"""How often an iteration is begun whose worker is lost, before it counts as failed."""

_TICK = 1.0
"""Seconds between two looks at what is running."""

_FAREWELL = 5.0
"""Seconds that a worker has to end what it runs."""


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
        if slots < 1:
            raise UsageError(f"the number of iterations at once is {slots}", "give 1 or more")
        self._contract = require_file(contract)
        self._options = options or RunOptions()
        self._wanted, self._limit, self._overrides = slots, limit, overrides
        self._scratch = tempfile.TemporaryDirectory(prefix="espdl-quantize-")
        self._token = secrets.token_hex(16) if shares else ""
        (Path(self._scratch.name) / TOKEN).write_text(self._token, encoding="ascii")
        try:
            self._cluster = Cluster(self._contract, address)
        except BaseException:
            self._scratch.cleanup()
            raise
        self._outputs: Path | None = None
        self._share = share_of(self._cluster, slots)
        self._workers: list[Worker] = []
        self._tasks: list[Task] = []
        self._facts: BackendFacts | None = None
        self._is_measured = False
        self._notices: list[str] = list(self._cluster.notices)

    def __enter__(self) -> RayBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, and the Ray that was started for them."""
        self.cancel()
        for worker in list(self._workers):
            self._dismiss(worker)
        self._cluster.close()
        self._scratch.cleanup()

    @property
    def slots(self) -> int:
        """How many iterations may run at once: as many as wanted, and as have room."""
        return min(self._wanted, self._cluster.room(self._share)) or 1

    @property
    def facts(self) -> BackendFacts:
        """What the contract says; starts a worker.

        Raises:
            ContractError: it does not load, or breaks the contract.
            InstallationError: a node lacks something.
        """
        if self._facts is None:
            facts = self._open()
            if facts.device != "cpu" and not self._share.gpus and self._cluster.gpus:
                self._share = share_of(self._cluster, self._wanted, gpus=1.0)
                self._dismiss(self._workers[0])
            full = facts.final_by == "evaluate" and self._options.full_eval
            self._facts = replace(
                facts,
                contract_path=str(self._contract),
                final_by=None if full else facts.final_by,
            )
        return self._facts

    def _open(self) -> BackendFacts:
        worker = self._idle() or self._hire()
        try:
            facts, error = self._cluster.ray.get(worker.actor.open.remote())
        except self._cluster.lost as lost:
            raise InstallationError(
                f"the first worker on Ray was lost: {_first_line(lost)}",
                "see that espdl-quantize is installed on every node",
            ) from lost
        if error is not None:
            raise EspdlQuantizeError.from_json(error)
        opened: BackendFacts = facts
        return opened

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
        self._make_room()
        return number, error

    def cancel(self) -> None:
        """End what is running at once; its workers go with it."""
        for task in self._tasks:
            if task.worker is not None:
                self._dismiss(task.worker)
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
                    outcome = self._again(task, _first_line(lost))
                    if outcome is None:
                        continue
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
        worker = self._idle() or self._hire()
        worker.task, task.worker = task, worker
        task.attempts += 1
        task.since, task.asked, task.place = time.monotonic(), None, WAITS
        assert self._outputs is not None
        files = self._news(worker)
        place = task.folder.relative_to(self._outputs).as_posix()
        # As the worker process takes it: what is not set stays so.
        setting = task.setting.model_dump(exclude_unset=True)
        task.answer = worker.actor.run.remote(
            str(self._outputs), place, setting, files, task.changed
        )

    def _again(self, task: Task, cause: str) -> tuple[int, EspdlQuantizeError | None] | None:
        """Run an iteration once more whose worker was lost; None where that is under way."""
        worker = task.worker
        assert worker is not None
        self._dismiss(worker)
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
            elapsed = time.monotonic() - task.since
            with locked(task.folder.parent), self._staged(task) as staging:
                record_crash(
                    staging,
                    task.setting,
                    lost_draft(task, self.facts),
                    stage=Stage.START,
                    failure=failure,
                    elapsed=elapsed,
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
        self._measure(handover.peak)
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

    def _measure(self, peak: Json) -> None:
        """Size the workers by what the first iteration took."""
        if self._is_measured or not peak:
            return
        self._is_measured = True
        share = share_of(
            self._cluster,
            self._wanted,
            gpus=self._share.gpus,
            memory=int(peak.get("bytes") or 0),
            device_share=float(peak.get("device_share") or 0.0),
        )
        if share == self._share:
            return
        self._share = share
        room = self._cluster.room(share)
        if room < self._wanted:
            self._notices.append(
                f"{max(room, 1)} of {self._wanted} iterations run at once: each takes {share}, and "
                f"the nodes have {self._cluster}"
            )

    def _make_room(self) -> None:
        """Dismiss idle workers that hold less than an iteration is known to take."""
        for worker in list(self._workers):
            if worker.task is None and not worker.share.covers(self._share):
                self._dismiss(worker)

    def _release(self, task: Task) -> None:
        self._tasks.remove(task)
        if task.worker is not None:
            task.worker.task = None

    @property
    def _carries_reuse(self) -> bool:
        """Whether the results of long passes go through this process."""
        return not self._token and self._options.reuse

    def _idle(self) -> Worker | None:
        return next((worker for worker in self._workers if worker.task is None), None)

    def _hire(self) -> Worker:
        threads = None if self._wanted == 1 else self._share.cpus
        outfit = Outfit(
            contract=str(self._contract),
            digest=sha256_of(self._contract),
            options=asdict(self._options),
            limit=self._limit,
            overrides=asdict(self._overrides),
            threads=threads,
            environment=threads_here(),
            scratch=self._scratch.name,
            token=self._token,
            version=_version(),
        )
        worker = Worker(self._cluster.actor(self.worker_type, self._share, outfit), self._share)
        self._workers.append(worker)
        return worker

    def _dismiss(self, worker: Worker) -> None:
        """End a worker, gently at first: its process and its scratch folder go before it."""
        if worker in self._workers:
            self._workers.remove(worker)
        ray = self._cluster.ray
        with contextlib.suppress(Exception):
            ray.wait([worker.actor.close.remote()], timeout=_FAREWELL)
        with contextlib.suppress(Exception):
            ray.kill(worker.actor)

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
                    task.place = place or task.place
                task.asked = None
            slow = task.is_slow(now)
            if slow is not None:
                self._notices.append(slow)
        progress.update(0, None, "; ".join(map(str, self._tasks)))

    def _news(self, worker: Worker) -> Files:
        """Return what the output folder has that a worker has not been given."""
        assert self._outputs is not None
        stamps = stamps_of(self._outputs, reuse=self._carries_reuse)
        fresh = {name: stamp for name, stamp in stamps.items() if worker.has.get(name) != stamp}
        worker.has |= fresh
        return {name: (self._outputs / name).read_bytes() for name in fresh}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _version() -> str:
    from espdl_quantize import __version__

    return __version__
