"""Runs iterations one by one in a worker process, and answers for those that die."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from espdl_quantize.core import (
    ContractError,
    EspdlQuantizeError,
    FailedPass,
    IterationError,
    Json,
    PassError,
    Progress,
    read_json,
)
from espdl_quantize.iteration import numbered, record_lost
from espdl_quantize.ppq import field_of_pass
from espdl_quantize.record import INDEX, locked, staged
from espdl_quantize.setting import Setting
from espdl_quantize.worker._job import Order
from espdl_quantize.worker._stages import Stages
from espdl_quantize.worker._wire import unpack_error
from espdl_quantize.worker._worker import Worker, WorkerDiedError

CONTRACT_JOB = "espdl_quantize.worker._contract_job:open_contract"
_LOG = "console.log"


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
    ) -> Json:
        """Run one iteration into ``folder``, which appears only when it is whole.

        An iteration that ran out of memory is run once more, in a process that uses less.

        Args:
            setting: what to run. A folder named ``iter_N`` decides the iteration's id.
            folder: the iteration's folder; the folder above it is the output folder.
            progress: told of every stage.
            overwrite: replace a finished iteration.
            limit: seconds that it may take; None for no limit.
            changed: options that are other than those of every iteration.

        Returns:
            The content of iteration_index.json, with ``"status": "ok"``.

        Raises:
            OutputFolderError: the folder is taken, or belongs to others; nothing was done.
            EspdlQuantizeError: the iteration failed, and ``folder`` says so and why.
        """
        folder = folder.resolve()
        setting = numbered(setting, folder)
        self._ready()
        with locked(folder.parent), staged(folder, overwrite) as staging:
            try:
                attempt = _Attempt(
                    setting, folder, staging, progress, limit, self._reduced, changed=changed or {}
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
        return ended.index

    def _once_more(self, attempt: _Attempt, ended: _Ended) -> _Ended:
        assert ended.failure is not None
        for entry in attempt.staging.iterdir():
            if entry.name != _LOG:
                is_folder = entry.is_dir() and not entry.is_symlink()
                shutil.rmtree(entry) if is_folder else entry.unlink()
        cause = ended.failure.cause
        with (attempt.staging / _LOG).open("a", encoding="utf-8") as log:
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
        stages, started = Stages(attempt.progress), time.monotonic()
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
            return self._ended_with_its_process(attempt, stages, place, inner, died, elapsed)
        except BaseException as error:
            stages.close(error)
            raise
        if answer["event"] == "done":
            return _Ended(answer["index"])
        self._drop(at_once=True)
        if answer["event"] == "broken":
            raise RuntimeError(f"the worker process failed:\n{answer['trace']}")
        failure = unpack_error(answer["error"])
        if answer["event"] == "refused":
            raise failure
        return _Ended(read_json(attempt.staging / INDEX), failure, bool(answer["memory"]))

    def _ended_with_its_process(
        self,
        attempt: _Attempt,
        stages: Stages,
        place: str,
        inner: str,
        died: WorkerDiedError,
        elapsed: float,
    ) -> _Ended:
        if (attempt.staging / INDEX).exists():
            # It is written last: all was done, and it failed to say so.
            index = read_json(attempt.staging / INDEX)
            if index.get("status") == "ok":
                return _Ended(index)
        failure = _death_in(inner, f"{died.cause} (while: {place})", died.hint)
        draft = stages.draft or self._first_draft(attempt)
        index = record_lost(
            attempt.staging, attempt.setting, draft, stages.last, failure, elapsed, stages.seconds
        )
        return _Ended(index, failure, died.death.out_of_memory)

    def _first_draft(self, attempt: _Attempt) -> Json:
        facts = self._facts or {}
        return {
            "iteration_id": attempt.setting.iteration_id,
            "rationale": attempt.setting.rationale,
            "contract_path": facts.get("contract_path"),
            "model_name": facts.get("model_name"),
            "target_chip": facts.get("target_chip"),
            "primary_metric": facts.get("metric"),
            "metric_direction": facts.get("direction"),
            "target_metric": facts.get("target"),
            "deploy_runtime_priority": facts.get("priority"),
            "applied_setting_warnings": list(attempt.notes),
        }

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
            told = worker.last_words()
            self._drop(at_once=True)
            raise ContractError(
                f"the contract does not load: {died.cause}"
                + (f"; it said: {told}" if told else ""),
                "see what it does when it is imported",
            ) from died
        except BaseException:
            self._drop(at_once=True)
            raise
        self._facts = answer["facts"]
        return worker

    def _drop(self, at_once: bool) -> None:
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
    """The index as it lies in the folder, and why it says "failed", if it does."""

    index: Json
    failure: EspdlQuantizeError | None = None
    out_of_memory: bool = False
