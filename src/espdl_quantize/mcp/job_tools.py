"""The tools that start, follow and end jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from mcp.server.mcpserver import Context
from pydantic import Field

from espdl_quantize.core import (
    EspdlQuantizeError,
    Hint,
    Option,
    OutputFolderError,
    UsageError,
    join_hints,
)
from espdl_quantize.mcp._models import LIVE, Job, Status
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._tool import ENDS, READS, REPLACES, RUNS, Tool
from espdl_quantize.mcp.folder_tools import folder_status, given_setting
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.options import (
    Duration,
    EspDlVersion,
    Iterations,
    RunOptions,
    SettingOrWord,
    TuneOptions,
    esp_dl_arguments,
    flags_of,
)
from espdl_quantize.mcp.texts import shortened
from espdl_quantize.record import is_finished, read_history
from espdl_quantize.record.files import iteration_name
from espdl_quantize.report import lint, look
from espdl_quantize.search import Proposal, Stop
from espdl_quantize.setting import Setting, baseline, parse_setting
from espdl_quantize.tuning import default_outputs, parse_duration

Ctx = Context[None, Any]
Contract = Annotated[str, Field(description="Path of the contract module, user_quant.py.")]
OutputDir = Annotated[str, Field(description="Output folder, which holds iter_0.")]
Target = Annotated[
    str | None,
    Field(
        max_length=40,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="The chip, in place of the contract's; its own output folder.",
    ),
]
OwnOutputDir = Annotated[
    str | None,
    Field(description="Output folder, which holds iter_0; else outputs, or outputs-<target>."),
]
Wait = Annotated[
    float,
    Field(
        ge=0,
        le=3600,
        description="Wait so many seconds for its end; it goes on in any case.",
    ),
]
JobId = Annotated[str, Field(description="As the tool that started it returned it.")]
DryRun = Annotated[
    bool, Field(description="Say what would be run and how long it takes; write nothing.")
]
_RUN, _TUNE = RunOptions(), TuneOptions()
_POLL = 0.25
_NOTIFY = 1.0


class JobTools:
    """Each method but :meth:`status` and :meth:`cancel` starts a run of the command."""

    def __init__(self, roots: Roots, store: JobStore) -> None:
        self._roots, self._store = roots, store

    def tools(self) -> tuple[Tool, ...]:
        """Return the tools of this module."""
        return (
            Tool(self.check_contract, "Check a contract", RUNS),
            Tool(self.run_iteration, "Run one iteration", REPLACES),
            Tool(self.tune, "Search by itself", RUNS),
            Tool(self.final_score, "Take the final score", RUNS),
            Tool(self.verify, "Verify the exported file", RUNS),
            Tool(self.status, "Jobs and output folders", READS),
            Tool(self.cancel, "Cancel a job", ENDS),
        )

    async def check_contract(
        self,
        ctx: Ctx,
        *,
        contract: Contract,
        score: Annotated[
            bool, Field(description="Score the float model, too; may take long.")
        ] = True,
        allow_mismatch: Annotated[
            bool, Field(description="Go on where what esp-ppq reads is not the model.")
        ] = False,
        esp_dl_version: EspDlVersion = None,
        target: Target = None,
        wait_seconds: Wait = 45,
    ) -> Job:
        """Check a contract: form, data, model, a trial quantization and the float model's score.

        All faults that can be seen are named in one go, each with its remedy.

        Executes the user's module, as a job. Waits up to wait_seconds for its end; then call status
        with the job_id. Next: run_iteration or tune. The same check twice is one job.
        """
        path = self._file(contract, "contract")
        arguments = ["check", str(path), *([] if score else ["--no-score"])]
        arguments += ["--allow-mismatch"] if allow_mismatch else []
        arguments += esp_dl_arguments(esp_dl_version)
        arguments += _target(target)
        job = await _in_thread(lambda: self._store.start("check_contract", arguments))
        return await self._wait(job, wait_seconds, ctx)

    async def run_iteration(
        self,
        ctx: Ctx,
        *,
        contract: Contract,
        output_dir: OwnOutputDir = None,
        target: Target = None,
        setting: SettingOrWord = "next",
        overwrite: Annotated[bool, Field(description="Replace a finished iteration.")] = False,
        dry_run: DryRun = False,
        options: Annotated[RunOptions, Field(description="Rarely needed.")] = _RUN,
        wait_seconds: Wait = 0,
    ) -> Job:
        """Quantize, analyse and score once with one setting: one iteration.

        Executes the user's module, as a job. Returns a job_id at once; call status with it and
        wait_seconds until it has ended, then next_step. A setting of yours is checked against the
        rules of the search first. Leaves <output_dir>/iter_<N>, or nothing where it is cancelled.
        """
        path = self._file(contract, "contract")
        outputs = self._output(output_dir or str(default_outputs(target)))
        number = options.iteration
        if isinstance(setting, str) and setting.endswith(".json"):
            setting = await _in_thread(lambda: given_setting(setting, self._roots))
        chosen = await _in_thread(lambda: _choose(outputs, setting, number))
        folder = self._roots.resolve(
            outputs / iteration_name(chosen.iteration_id), "the iteration's folder"
        )
        if is_finished(folder) and not overwrite:
            raise OutputFolderError(
                f"{folder} holds a finished iteration",
                Hint("leave out ", Option.ITERATION, " for the next, or pass ")
                + Hint(Option.OVERWRITE.of(True)),
            )
        if not isinstance(setting, str) and not options.allow and outputs.is_dir():
            await _in_thread(lambda: _lint(outputs, chosen))
        arguments = ["run", str(path), "--output-dir", str(folder)]
        arguments += options.arguments("allow", "info", "native")
        arguments += _target(target)
        arguments += flags_of(overwrite=overwrite, dry_run=dry_run)
        content = chosen.model_dump(exclude_none=True)
        writes = None if dry_run else outputs
        job = await _in_thread(
            lambda: self._store.start("run_iteration", arguments, writes, content)
        )
        return await self._wait(job, wait_seconds, ctx)

    async def tune(
        self,
        ctx: Ctx,
        *,
        contract: Annotated[
            str | None, Field(description="Path of the contract module, user_quant.py.")
        ] = None,
        output_dir: OwnOutputDir = None,
        target: Target = None,
        iterations: Iterations | None = None,
        time: Annotated[
            Duration | None, Field(description="How long this call may take: 45m, 1h30m, 90s.")
        ] = None,
        dry_run: DryRun = False,
        options: Annotated[TuneOptions, Field(description="Rarely needed.")] = _TUNE,
        wait_seconds: Wait = 0,
    ) -> Job:
        """Search by itself to a stop: baseline, calibrations, levers, open exploration, report.

        Executes the user's module, as a job. Returns a job_id at once; call status with it and
        wait_seconds until it has ended, then report. Without iterations and time it stops at the
        target, or when every step was taken. The same call goes on where it stopped;
        <output_dir>/best holds the best model so far.
        """
        recorded = options.recorded
        if (contract is None) == (recorded is None):
            raise UsageError("tune takes one of contract and options.recorded", "give one of them")
        if recorded is not None and target is not None:
            raise UsageError("a recorded table has its own chip", "leave out target")
        outputs = self._output(output_dir or str(default_outputs(target)))
        arguments = ["tune", "--output-dir", str(outputs), f"--policy={options.policy}"]
        arguments += options.arguments("ignore_plateau")
        arguments += _target(target)
        if contract is not None:
            arguments.append(str(self._file(contract, "contract")))
        if recorded is not None:
            table = self._file(recorded, "options.recorded")
            arguments += ["--recorded", str(table)]
        if time is not None:
            parse_duration(time)
        for option, value in (
            ("--iterations", iterations),
            ("--time", time),
            ("--pace", options.pace),
            ("--strategy", options.strategy),
            ("--parallel", options.parallel),
            ("--ray", options.ray),
        ):
            if value is not None:
                arguments.append(f"{option}={value}")
        arguments += flags_of(dry_run=dry_run)
        writes = None if dry_run else outputs
        job = await _in_thread(
            lambda: self._store.start("tune", arguments, writes, is_light=recorded is not None)
        )
        return await self._wait(job, wait_seconds, ctx)

    async def final_score(
        self,
        ctx: Ctx,
        *,
        contract: Contract,
        output_dir: OutputDir = "outputs",
        wait_seconds: Wait = 0,
    ) -> Job:
        """Score best and the baseline on samples that the search never used (evaluate_final).

        Executes the user's module, as a job; tune has done it at its end. Returns a job_id at once;
        call status with it, then finalize, which puts the score into the report.
        """
        return await self._of_best("final_score", "final", contract, output_dir, wait_seconds, ctx)

    async def verify(
        self,
        ctx: Ctx,
        *,
        contract: Contract,
        output_dir: OutputDir = "outputs",
        esp_dl_version: EspDlVersion = None,
        wait_seconds: Wait = 0,
    ) -> Job:
        """Make best's model again and hold the file against it, the chip's rules and its integers.

        Executes the user's module, as a job, before a model is deployed. Returns a job_id at once;
        call status with it.
        """
        more = esp_dl_arguments(esp_dl_version)
        return await self._of_best(
            "verify", "verify", contract, output_dir, wait_seconds, ctx, more
        )

    async def _of_best(
        self,
        kind: Literal["final_score", "verify"],
        command: str,
        contract: str,
        output_dir: str,
        wait_seconds: float,
        ctx: Ctx,
        more: Sequence[str] = (),
    ) -> Job:
        path, outputs = self._file(contract, "contract"), self._output(output_dir)
        if not outputs.is_dir():
            raise OutputFolderError(
                f"{outputs} does not exist", "start tune or run_iteration, which make it"
            )
        arguments = [command, str(path), "--output-dir", str(outputs), *more]
        job = await _in_thread(lambda: self._store.start(kind, arguments, outputs))
        return await self._wait(job, wait_seconds, ctx)

    async def status(
        self,
        ctx: Ctx,
        *,
        job_id: Annotated[
            str | None, Field(max_length=64, description="One job, with its result or error.")
        ] = None,
        output_dir: Annotated[
            str | None, Field(description="An output folder: its search and its jobs.")
        ] = None,
        state: Annotated[
            Literal["live", "queued", "running", "finished", "failed", "interrupted", "lost"]
            | None,
            Field(description="Only jobs in this state; live: all that have not ended."),
        ] = None,
        offset: Annotated[int, Field(ge=0, le=10**6, description="The first of the list.")] = 0,
        limit: Annotated[int, Field(ge=1, le=50, description="At most so many of the list.")] = 10,
        wait_seconds: Wait = 0,
    ) -> Status:
        """Say how a job is; or list jobs, those that run first; or where a search stands.

        With job_id and wait_seconds it waits for the job's end: call it again and again until the
        state is neither queued nor running. Then do what "next" says.
        """
        folder = None
        if output_dir is not None:
            outputs = self._roots.resolve(output_dir, "output_dir")
            folder = await _in_thread(lambda: folder_status(outputs))
        if job_id is not None:
            job = await _in_thread(lambda: self._store.get(job_id))
            job = await self._wait(job, wait_seconds, ctx)
            return Status(
                jobs=[job], total=1, live=int(job.state in LIVE), folder=folder, untrusted=["jobs"]
            )
        into = None if folder is None else folder.output_dir
        page = await _in_thread(lambda: self._store.page(into, state, offset, limit))
        end = offset + len(page.jobs)
        return Status(
            jobs=list(map(_brief, page.jobs)),
            total=page.total,
            live=page.live,
            next_offset=end if end < page.total else None,
            folder=folder,
            untrusted=["jobs"],
        )

    async def cancel(self, ctx: Ctx, job_id: JobId, wait_seconds: Wait = 10) -> Job:
        """End a job as by Ctrl-C: what was finished is kept, and the same call goes on from there.

        Returns the job; call status until it has ended. One that is queued never starts. What does
        not end within half a minute is terminated, then killed.
        """
        job = await _in_thread(lambda: self._store.cancel(job_id))
        return await self._wait(job, wait_seconds, ctx)

    async def _wait(self, job: Job, seconds: float, ctx: Ctx) -> Job:
        """Wait for a job's end and tell of its progress meanwhile.

        Progress is reported in seconds, since that is what grows whatever the job does.
        """
        deadline = time.monotonic() + seconds
        notified = 0.0
        while job.state in LIVE and time.monotonic() < deadline:
            await anyio.sleep(_POLL)
            job_id = job.job_id
            job = await _in_thread(lambda job_id=job_id: self._store.get(job_id))
            if time.monotonic() - notified >= _NOTIFY or job.state not in LIVE:
                notified = time.monotonic()
                await _notify(ctx, job)
        return job

    def _file(self, path: str, what: str) -> Path:
        file = self._roots.resolve(path, what)
        if not file.is_file():
            hint = "give the path of a file inside the root"
            if what == "contract":
                hint = "give the path of the contract; init writes one to fill in"
            raise UsageError(f"{what} {path[:200]!r}: {file} is no file", hint)
        wanted = ".py" if what == "contract" else ".zip"
        if file.suffix != wanted:
            raise UsageError(f"{what} {path[:200]!r} does not end in {wanted}", "give another file")
        return file

    def _output(self, path: str) -> Path:
        outputs = self._roots.resolve(path, "output_dir")
        if outputs.exists() and not outputs.is_dir():
            raise UsageError(f"output_dir {path[:200]!r} is a file", "give the path of a folder")
        return outputs


def _target(target: str | None) -> list[str]:
    return [] if target is None else [f"--target={target}"]


def _brief(job: Job) -> Job:
    """Leave out what would make a list of jobs long."""
    recent = [shortened(line, 200) for line in job.recent[-1:]]
    error = job.error
    if error is not None:
        error = error.model_copy(
            update={"message": shortened(error.message, 200), "faults": [], "hint": ""}
        )
    return job.model_copy(
        update={"recent": recent, "result": None, "error": error, "untrusted": [], "next": ""}
    )


async def _notify(ctx: Ctx, job: Job) -> None:
    left = None if job.progress is None else job.progress.seconds_left
    total = None if left is None else job.elapsed_seconds + left
    text = job.state if job.progress is None else job.progress.text
    await ctx.report_progress(job.elapsed_seconds, total, text)


def _choose(outputs: Path, setting: Any, iteration: int | None) -> Setting:
    """Return the setting that is meant, under its number."""
    history = read_history(outputs) if outputs.is_dir() else None
    number = 0 if history is None else history.next_id
    number = number if iteration is None else iteration
    if setting == "baseline" or (setting == "next" and history is None):
        # Which calibration that is, the contract says; only the job reads it.
        return baseline(number, num_of_bits=None)
    if isinstance(setting, dict):
        return parse_setting({**setting, "iteration_id": number})
    if setting != "next":
        raise UsageError(
            f"setting is {shortened(repr(setting), 60)}",
            'give "next", "baseline", an object, or the path of a .json file',
        )
    decision = look(outputs).decision
    if not isinstance(decision, Proposal):
        raise EspdlQuantizeError(
            f"{decision.phase} has no next setting",
            "the search is over: finalize, then report"
            if isinstance(decision, Stop)
            else "write one: next_step says what the data suggests, lint_setting checks it",
        )
    return decision.setting.model_copy(update={"iteration_id": number})


def _lint(outputs: Path, setting: Setting) -> None:
    """Refuse a setting that breaks a rule of the search, before a job is started for it."""
    broken = lint(outputs, setting)
    if broken:
        raise EspdlQuantizeError(
            "; ".join(f"{each.rule}: {each.found}" for each in broken),
            join_hints(
                [
                    *(each.hint for each in broken),
                    Hint(Option.ALLOW.of(True), " runs it all the same, where the user wants it"),
                ]
            ),
        )


async def _in_thread(call: Any) -> Any:
    return await anyio.to_thread.run_sync(call)
