"""Runs iterations one by one in a worker process, and answers for those that die."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from espdl_quantize.core import (
    ContractError,
    EspdlQuantizeError,
    FailedPass,
    IterationError,
    Json,
    OutputFolderError,
    PassError,
    Progress,
    Stage,
)
from espdl_quantize.iteration import first_draft, numbered, record_crash
from espdl_quantize.ppq import field_of_pass
from espdl_quantize.record import (
    IterationRecord,
    locked,
    read_record,
    record_from_json,
    staged,
)
from espdl_quantize.record.files import LOG
from espdl_quantize.setting import Setting
from espdl_quantize.worker._job import Order
from espdl_quantize.worker._wire import unpack_error
from espdl_quantize.worker._worker import Worker, WorkerDiedError

CONTRACT_JOB = "espdl_quantize.worker._contract_job:open_contract"


class Runner:
    """Runs iterations in one worker process, which is replaced after any that failed.

    What a process has set up once (imports, the contract, whatever it keeps) serves all iterations
    that go well. The folder is claimed and published here, so that the death of the worker, at any
    moment, leaves a whole folder that says so.

    Args:
        job: ``package.module:function`` that makes the worker's :class:`Job`.
        arguments: of that function.
        options: of every iteration, as the job takes them.
        describe: writes a duration.
        open_limit: seconds that the job may take to open; None for no limit.
    """

    def __init__(
        self,
        job: str,
        arguments: Json,
        options: Json,
        describe: Callable[[float], str] = "{:g} s".format,
        open_limit: float | None = None,
    ) -> None:
        self._open_limit = open_limit
        self._job, self._arguments, self._options = job, arguments, options
        self._describe = describe
        self._worker: Worker | None = None
        self._facts: Json | None = None
        self._reduced = False
        self.peak: Json = {}
        """Of the latest iteration that came to its end: the ``bytes`` of memory that its process
        has had at most, and the ``device_share`` of a GPU's."""

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._drop(at_once=kind is not None)

    @property
    def facts(self) -> Json:
        """What the job tells of itself; starts the worker.

        Raises:
            EspdlQuantizeError: the job cannot be opened.
        """
        if self._facts is None:
            self._ready()
        assert self._facts is not None
        return self._facts

    @property
    def pid(self) -> int | None:
        """The worker's number, where there is one."""
        return None if self._worker is None else self._worker.pid

    def run(
        self,
        setting: Setting,
        folder: Path,
        progress: Progress,
        *,
        overwrite: bool = False,
        limit: float | None = None,
        changed: Json | None = None,
    ) -> IterationRecord:
        """Run one iteration into ``folder``, which appears only when it is whole.

        An iteration that ran out of memory is run once more, in a process that uses less.

        Args:
            setting: what to run. A folder named ``iter_N`` decides the iteration's id.
            folder: the iteration's folder; the folder above it is the output folder.
            progress: notified of every stage.
            overwrite: replace a finished iteration.
            limit: seconds that it may take; None for no limit.
            changed: options that are other than those of every iteration.

        Returns:
            The record of the iteration, which has a score.

        Raises:
            OutputFolderError: the folder is taken, or belongs to others; nothing was done.
            EspdlQuantizeError: the iteration failed, and ``folder`` says so and why.
        """
        folder = folder.resolve()
        setting = numbered(setting, folder)
        self._ready()
        with locked(folder.parent), staged(folder, overwrite=overwrite) as staging:
            try:
                attempt = _Attempt(
                    setting,
                    folder,
                    staging,
                    progress,
                    limit,
                    reduced=self._reduced,
                    changed=changed or {},
                )
                ended = self._attempt(attempt)
                if ended.out_of_memory and not self._reduced:
                    self._reduced = True
                    ended = self._once_more(attempt, ended)
            except BaseException:
                # Before the folder is cleared: it must not be written to any more.
                self._drop(at_once=True)
                raise
        if ended.failure is not None:
            raise ended.failure
        return ended.record

    def _once_more(self, attempt: _Attempt, ended: _Ended) -> _Ended:
        assert ended.failure is not None
        for entry in attempt.staging.iterdir():
            if entry.name != LOG:
                is_folder = entry.is_dir() and not entry.is_symlink()
                shutil.rmtree(entry) if is_folder else entry.unlink()
        cause = ended.failure.cause
        with (attempt.staging / LOG).open("a", encoding="utf-8") as log:
            log.write(f"\n--- {cause}; once more with less memory ---\n")
        note = f"ran out of memory at first ({cause}); this is a second run that uses less"
        again = _Attempt(
            attempt.setting,
            attempt.folder,
            attempt.staging,
            attempt.progress,
            attempt.limit,
            reduced=True,
            notes=(note,),
            changed=attempt.changed,
        )
        with attempt.progress.stage("once more, with less memory"):
            return self._attempt(again)

    def _attempt(self, attempt: _Attempt) -> _Ended:
        stages, started = _Stages(attempt.progress), time.monotonic()
        options = {**self._options, **attempt.changed}
        options |= {"reduced_memory": True} if attempt.reduced else {}
        order = Order(
            attempt.setting, attempt.folder, attempt.staging, options, attempt.notes
        ).pack()
        try:
            answer = self._ready().ask(
                {"do": "run", "order": order}, stages.hear, attempt.limit, self._describe
            )
        except WorkerDiedError as died:
            self._drop(at_once=True)
            place, inner = stages.place, stages.inner
            stages.close(died)
            elapsed = time.monotonic() - started
            return self._ended_with_its_process(
                attempt, options, stages, place, inner, died, elapsed
            )
        except BaseException as error:
            stages.close(error)
            raise
        self.peak = answer.get("peak") or self.peak
        if answer["event"] == "done":
            return _Ended(record_from_json(answer["record"]))
        self._drop(at_once=True)
        if answer["event"] == "broken":
            raise RuntimeError(f"the worker process failed:\n{answer['trace']}")
        failure = unpack_error(answer["error"])
        if answer["event"] == "refused":
            raise failure
        memory = bool(answer["memory"])
        return _Ended(read_record(attempt.staging), failure, out_of_memory=memory)

    def _ended_with_its_process(
        self,
        attempt: _Attempt,
        options: Json,
        stages: _Stages,
        place: str,
        inner: str,
        died: WorkerDiedError,
        elapsed: float,
    ) -> _Ended:
        with contextlib.suppress(OutputFolderError):
            # It is written last: all was done, and the process failed to say so.
            written = read_record(attempt.staging)
            if written.failure is None:
                return _Ended(written)
        failure = _death_in(inner, f"{died.cause} (while: {place})", died.hint)
        draft = stages.draft or first_draft(
            attempt.setting, self._facts or {}, options, attempt.notes
        )
        record = record_crash(
            attempt.staging,
            attempt.setting,
            draft,
            stage=stages.last,
            failure=failure,
            elapsed=elapsed,
            seconds=stages.seconds,
        )
        return _Ended(record, failure, out_of_memory=died.death.out_of_memory)

    def _ready(self) -> Worker:
        """Return the worker, started and with its job open."""
        if self._worker is not None:
            return self._worker
        worker = self._worker = Worker()
        try:
            answer = worker.ask(
                {"do": "open", "job": self._job, "arguments": self._arguments},
                limit=self._open_limit,
                describe=self._describe,
            )
            if answer["event"] == "broken":
                raise RuntimeError(f"the worker process failed:\n{answer['trace']}")
            if answer["event"] != "opened":
                raise unpack_error(answer["error"])
        except WorkerDiedError as died:
            last_words = worker.last_words()
            self._drop(at_once=True)
            raise ContractError(
                f"the contract does not load: {died.cause}"
                + (f"; it said: {last_words}" if last_words else ""),
                "see what it does when it is imported",
            ) from died
        except BaseException:
            self._drop(at_once=True)
            raise
        self._facts = answer["facts"]
        return worker

    def _drop(self, *, at_once: bool) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            if at_once:
                worker.kill()
            worker.close()


def _death_in(stage: str, cause: str, hint: str) -> IterationError:
    """Return the error of a process that died within a pass of the quantizer, or outside of it."""
    field = field_of_pass(stage)
    if not field:
        return IterationError(cause, hint)
    return PassError(cause, hint, FailedPass(stage, field))


@dataclass(frozen=True)
class _Attempt:
    setting: Setting
    folder: Path
    staging: Path
    progress: Progress
    limit: float | None
    reduced: bool
    notes: tuple[str, ...] = ()
    changed: Json = field(default_factory=dict)


@dataclass(frozen=True)
class _Ended:
    """The record as it lies in the folder, and why the iteration failed, if it did."""

    record: IterationRecord
    failure: EspdlQuantizeError | None = None
    out_of_memory: bool = False


class _OpenStage(NamedTuple):
    name: str
    shown: AbstractContextManager[None]
    since: float


class _Stages:
    """Shows the stages of the worker process on a progress of this one.

    Attributes:
        last: the outermost stage that was heard of last.
        seconds: what the outermost stages took.
        draft: the record as it last stood; None before the first.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: list[_OpenStage] = []
        self.last: str = Stage.START
        self.seconds: dict[str, float] = {}
        self.draft: IterationRecord | None = None

    @property
    def place(self) -> str:
        """Return where in its stages the iteration is, such as "quantize: tqt"."""
        return ": ".join(stage.name for stage in self._open) or self.last

    @property
    def inner(self) -> str:
        """Return the innermost open stage; empty where there is none within the outermost."""
        return self._open[-1].name if len(self._open) > 1 else ""

    def hear(self, message: Json) -> None:
        """Take note of one message; those of other kinds are left alone."""
        event = message.get("event")
        if event == "draft":
            self.draft = record_from_json(message["record"])
        elif event == "stage":
            self._enter(str(message["name"]))
        elif event == "update":
            self._progress.update(message["done"], message["total"], message["detail"])
        elif event == "stage ended":
            self._leave(None)
        elif event == "stage failed":
            self._leave(RuntimeError())

    def close(self, reason: BaseException) -> None:
        """End all stages: nothing more will be heard of them."""
        while self._open:
            self._leave(reason)

    def _enter(self, name: str) -> None:
        if not self._open:
            self.last = name
        shown = self._progress.stage(name)
        shown.__enter__()
        self._open.append(_OpenStage(name, shown, time.monotonic()))

    def _leave(self, reason: BaseException | None) -> None:
        if not self._open:
            return
        name, shown, since = self._open.pop()
        if not self._open:
            self.seconds[name] = round(time.monotonic() - since, 3)
        shown.__exit__(None if reason is None else type(reason), reason, None)
