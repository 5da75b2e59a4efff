"""The tools that start, follow and end jobs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from mcp.server.mcpserver import Context
from pydantic import Field

from espdl_quantize.core import EspdlQuantizeError, UsageError
from espdl_quantize.mcp._models import LIVE, Job, Status
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._tool import ENDS, READS, REPLACES, RUNS, Tool
from espdl_quantize.mcp.folder_tools import folder_status
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.record import read_history
from espdl_quantize.record.files import iteration_name
from espdl_quantize.report import look
from espdl_quantize.search import Proposal, Stop
from espdl_quantize.setting import Setting, baseline, parse_setting
from espdl_quantize.tune import BUDGET_RULE

Ctx = Context[None, Any]
Contract = Annotated[str, Field(description="Path of the contract module, user_quant.py.")]
OutputDir = Annotated[str, Field(description="The output folder, which holds iter_0.")]
Wait = Annotated[
    float,
    Field(
        ge=0,
        le=3600,
        description="Wait so many seconds for the job's end, with progress notifications where the "
        "client asks for them; the job goes on in any case.",
    ),
]
JobId = Annotated[str, Field(description="As the tool that started it returned it.")]
Engine = Annotated[
    Literal["fast", "reference"], Field(description="The fast engine, or plain esp-ppq.")
]
FullEval = Annotated[bool, Field(description="Score by evaluate(), not by evaluate_fast().")]
Seed = Annotated[int, Field(ge=0, description="Of every random generator.")]
NoFloat = Annotated[
    bool, Field(description="Do not score the float model first: evaluate() cannot.")
]
Limit = Annotated[
    str | None,
    Field(
        description="End an iteration that takes longer, as failed: 30m, 2h, or seconds. Without "
        "it, ten times what was measured in this folder before."
    ),
]
DryRun = Annotated[
    bool, Field(description="Say what would be run and how long it takes; write nothing.")
]
NoReuse = Annotated[
    bool, Field(description="Compute everything anew, and share nothing with other iterations.")
]
_POLL = 0.25
_NOTIFY = 1.0
_SHOWN = 20


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
        wait_seconds: Wait = 45,
    ) -> Job:
        """Check a contract: all of its form at once, one batch, the float model's score.

        Executes the user's module. Runs as a job.
        """
        path = self._file(contract, "contract")
        arguments = ["check", str(path), *([] if score else ["--no-score"])]
        job = await _in_thread(lambda: self._store.start("check_contract", arguments))
        return await self._wait(job, wait_seconds, ctx)

    async def run_iteration(
        self,
        ctx: Ctx,
        *,
        contract: Contract,
        output_dir: OutputDir = "outputs",
        setting: Annotated[
            dict[str, Any] | Literal["next", "baseline"],
            Field(
                description="A setting (see the resource setting-schema; iteration_id may be left "
                "out), 'next' for what the search asks for, or 'baseline'."
            ),
        ] = "next",
        iteration: Annotated[
            int | None,
            Field(ge=0, description="The N of iter_N; without it, the next that is free."),
        ] = None,
        overwrite: Annotated[bool, Field(description="Replace a finished iteration.")] = False,
        allow: Annotated[
            bool, Field(description="Run a setting that breaks a rule of the search.")
        ] = False,
        use_full_eval: FullEval = False,
        no_float_score: NoFloat = False,
        info: Annotated[bool, Field(description="Export .info and .json, too.")] = False,
        native: Annotated[bool, Field(description="Export .native, too.")] = False,
        seed: Seed = 0,
        engine: Engine = "fast",
        iteration_limit: Limit = None,
        no_reuse: NoReuse = False,
        dry_run: DryRun = False,
        wait_seconds: Wait = 0,
    ) -> Job:
        """Quantize, analyse and score once, as a job.

        Executes the user's module. Leaves <output_dir>/iter_<N> with the model and every artifact
        of its error, or nothing where it is cancelled.
        """
        path = self._file(contract, "contract")
        outputs = self._roots.resolve(output_dir, "output_dir")
        chosen = await _in_thread(lambda: _choose(outputs, setting, iteration))
        folder = self._roots.resolve(
            outputs / iteration_name(chosen.iteration_id), "the iteration's folder"
        )
        arguments = ["run", str(path), "--output-dir", str(folder)]
        arguments += ["--seed", str(seed), "--engine", engine]
        arguments += _flags(
            overwrite=overwrite,
            allow=allow,
            use_full_eval=use_full_eval,
            no_float_score=no_float_score,
            info=info,
            native=native,
            no_reuse=no_reuse,
            dry_run=dry_run,
        )
        if iteration_limit is not None:
            arguments.append(f"--iteration-limit={iteration_limit}")
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
        recorded: Annotated[
            str | None,
            Field(description="Instead of a contract: a recorded table, which is replayed."),
        ] = None,
        output_dir: OutputDir = "outputs",
        iterations: Annotated[
            int | None,
            Field(ge=1, description=f"How many iterations this call may run. {BUDGET_RULE}"),
        ] = None,
        time: Annotated[
            str | None, Field(description="How long this call may take: 45m, 1h30m, 90s.")
        ] = None,
        policy: Annotated[
            str, Field(description="Who explores once the levers are used up: evidence or optuna.")
        ] = "evidence",
        ignore_plateau: Annotated[
            bool, Field(description="Go on where the metric has stopped moving.")
        ] = False,
        use_full_eval: FullEval = False,
        no_float_score: NoFloat = False,
        pace: Annotated[
            float | None,
            Field(gt=0, description="With recorded: at so many times the recorded speed."),
        ] = None,
        seed: Seed = 0,
        engine: Engine = "fast",
        iteration_limit: Limit = None,
        no_reuse: NoReuse = False,
        dry_run: DryRun = False,
        wait_seconds: Wait = 0,
    ) -> Job:
        """Search by itself to a stop, as a job; <output_dir>/best holds the best model so far.

        Executes the user's module. Without iterations and time it stops at the target, at a
        plateau, or when nothing is left to try. The same call goes on from where it stopped.
        """
        if (contract is None) == (recorded is None):
            raise UsageError("tune takes one of contract and recorded", "give one of them")
        outputs = self._roots.resolve(output_dir, "output_dir")
        arguments = ["tune", "--output-dir", str(outputs), f"--policy={policy}"]
        arguments += ["--seed", str(seed), "--engine", engine]
        if contract is not None:
            arguments.append(str(self._file(contract, "contract")))
        if recorded is not None:
            arguments += ["--recorded", str(self._roots.resolve(recorded, "recorded"))]
        for option, value in (
            ("--iterations", iterations),
            ("--time", time),
            ("--pace", pace),
            ("--iteration-limit", iteration_limit),
        ):
            if value is not None:
                arguments.append(f"{option}={value}")
        arguments += _flags(
            ignore_plateau=ignore_plateau,
            use_full_eval=use_full_eval,
            no_float_score=no_float_score,
            no_reuse=no_reuse,
            dry_run=dry_run,
        )
        writes = None if dry_run else outputs
        job = await _in_thread(lambda: self._store.start("tune", arguments, writes))
        return await self._wait(job, wait_seconds, ctx)

    async def status(
        self,
        ctx: Ctx,
        *,
        job_id: Annotated[str | None, Field(description="One job.")] = None,
        output_dir: Annotated[
            str | None, Field(description="An output folder: its search and its jobs.")
        ] = None,
        wait_seconds: Wait = 0,
    ) -> Status:
        """Say how a job is, or the newest 20 jobs, or where the search in an output folder stands.

        With job_id and wait_seconds it waits for the job's end. Only with job_id are the command,
        its result and all that it told last in the answer.
        """
        folder = None
        if output_dir is not None:
            outputs = self._roots.resolve(output_dir, "output_dir")
            folder = await _in_thread(lambda: folder_status(outputs))
        if job_id is not None:
            job = await _in_thread(lambda: self._store.get(job_id))
            return Status(jobs=[await self._wait(job, wait_seconds, ctx)], folder=folder)
        writes_into = None if folder is None else folder.output_dir
        jobs = await _in_thread(lambda: self._store.jobs(_SHOWN, writes_into))
        return Status(jobs=list(map(_brief, jobs)), folder=folder)

    async def cancel(self, ctx: Ctx, job_id: JobId, wait_seconds: Wait = 10) -> Job:
        """End a job as by Ctrl-C: what was finished is kept, and the same call goes on from there.

        What does not end within half a minute is terminated, then killed.
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
            raise UsageError(f"{what} {path!r}: {file} is no file", "give the path of the module")
        return file


def _brief(job: Job) -> Job:
    """Leave out what would make a list of jobs long."""
    return job.model_copy(update={"command": [], "recent": job.recent[-1:], "result": None})


async def _notify(ctx: Ctx, job: Job) -> None:
    left = None if job.progress is None else job.progress.seconds_left
    total = None if left is None else job.elapsed_seconds + left
    text = job.state if job.progress is None else job.progress.text
    await ctx.report_progress(job.elapsed_seconds, total, text)


def _choose(outputs: Path, setting: dict[str, Any] | str, iteration: int | None) -> Setting:
    """Return the setting that is meant, under its number."""
    history = read_history(outputs) if outputs.is_dir() else None
    number = 0 if history is None else history.next_id
    number = number if iteration is None else iteration
    if setting == "baseline" or (setting == "next" and history is None):
        # Which calibration that is, the contract says; only the job reads it.
        return baseline(number, num_of_bits=None)
    if isinstance(setting, dict):
        return parse_setting({**setting, "iteration_id": number})
    decision = look(outputs).decision
    if not isinstance(decision, Proposal):
        raise EspdlQuantizeError(
            f"{decision.phase} has no next setting",
            "the search is over: finalize, then report"
            if isinstance(decision, Stop)
            else "write one: next_step says what the data suggests, lint_setting checks it",
        )
    return decision.setting.model_copy(update={"iteration_id": number})


def _flags(**flags: bool) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name, is_set in flags.items() if is_set]


async def _in_thread(call: Any) -> Any:
    return await anyio.to_thread.run_sync(call)
