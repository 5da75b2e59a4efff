"""Runs one iteration: quantize, analyse, export, score, and leave a folder that says it all."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.analysis import Measurements, measure
from espdl_quantize.chip import check_model, reject_illegal
from espdl_quantize.contract import Batch, Contract, Origin, located
from espdl_quantize.errors import EspdlQuantizeError, IterationError, OutputFolderError
from espdl_quantize.iteration import _artifacts as artifacts
from espdl_quantize.iteration._admission import check_admission
from espdl_quantize.iteration._aside import aside_facts, drawn
from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._float_reference import FloatReference
from espdl_quantize.iteration._folder import INDEX, MEMORY, iteration_number, locked, staged
from espdl_quantize.iteration._lost import SPILLED, full_disk, is_full_disk, sweep_up
from espdl_quantize.iteration._per_sample import write_samples
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._score import (
    Score,
    evaluator_of,
    facts_of,
    final_evaluator,
    meter_of,
    score,
    score_float,
)
from espdl_quantize.iteration._signals import FloatOutputs
from espdl_quantize.jsonio import Json, write_json
from espdl_quantize.quantize import (
    Engine,
    Progress,
    QuantizedModel,
    ReusedPass,
    at_work,
    batch_digests,
    check_device,
    check_installation,
    describe_failure,
    esp_ppq_version,
    export,
    quantize,
    seed_everything,
    spilling_to,
)
from espdl_quantize.setting import Setting, resolve
from espdl_quantize.targets import probe_target


@dataclass(frozen=True)
class RunOptions:
    """How an iteration runs, apart from its setting.

    Attributes:
        full_eval: score by evaluate even where the contract has an evaluate_fast.
        seed: of every random generator.
        with_info: export .info and .json beside the .espdl.
        with_native: export esp-ppq's own .native beside the .espdl.
        overwrite: replace a finished iteration.
        engine: "fast", or "reference" for plain esp-ppq.
        score_float: score the float model first, which also proves the contract's evaluation.
        reuse: take the results of long passes from earlier iterations of the output folder.
        reduced_memory: keep what is large on the disk, with the same results.
        home: the output folder that the run belongs to, where that is not the one above its own:
            whose float scores and whose results of long passes it takes.
        final: score by evaluate_final, or by evaluate where there is none; analyse nothing.
        draw: of the calibration data; 0 is as the loader gives it. Another analyses nothing.
    """

    full_eval: bool = False
    seed: int = 0
    with_info: bool = False
    with_native: bool = False
    overwrite: bool = False
    engine: Engine = "fast"
    score_float: bool = True
    reuse: bool = True
    reduced_memory: bool = False
    home: str = ""
    final: bool = False
    draw: int = 0

    @property
    def is_aside(self) -> bool:
        """Return whether it is no step of the search."""
        return self.final or self.draw > 0


@dataclass
class _Run:
    """What one iteration has found out so far; a failure reports as much as there is."""

    contract: Contract
    prepared: Prepared
    setting: Setting
    options: RunOptions
    progress: Progress
    folder: Path
    staging: Path
    tell: Callable[[Json], None] | None = None
    stage: str = "start"
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    measured: Measurements | None = None
    counts: dict[str, int] = field(default_factory=dict)
    chip_check: Json | None = None
    scored: Score | None = None
    float_value: float | None = None
    float_key: str | None = None
    reused: tuple[ReusedPass, ...] = ()
    facts: Json = field(default_factory=dict)

    @property
    def outputs(self) -> Path:
        """The output folder."""
        return Path(self.options.home) if self.options.home else self.folder.parent

    @property
    def origin(self) -> Origin:
        """What the score is measured with, as far as it is known yet."""
        return Origin(self.contract.config.target, self.float_key)

    @property
    def memory(self) -> Path | None:
        """Where the results of long passes are; of other data there are none."""
        options = self.options
        shared = options.reuse and options.engine == "fast" and options.draw == 0
        return self.outputs / MEMORY if shared else None

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Name the stage for the failure report and measure it."""
        self.stage = stage
        if self.tell is not None:
            self.tell(_index(self, None, 0.0))
        started = time.perf_counter()
        try:
            with self.progress.stage(stage):
                yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - started, 3)


def run_iteration(
    contract: Contract,
    setting: Setting,
    folder: Path,
    options: RunOptions,
    progress: Progress,
    prepared: Prepared | None = None,
) -> Json:
    """Run one iteration into ``folder``, which appears only when it is whole.

    Args:
        contract: the user's module.
        setting: what to quantize with. A folder named ``iter_N`` decides the iteration's id.
        folder: the iteration's folder; the folder above it is the output folder.
        options: how to run.
        progress: told of every stage.
        prepared: of this contract, where more iterations are to come in this process.

    Returns:
        The content of iteration_index.json, with ``"status": "ok"``.

    Raises:
        OutputFolderError: the folder is taken, cannot be written, or lies beside iterations of
            another chip, contract or model; nothing was done.
        EspdlQuantizeError: the iteration failed; ``folder`` says so and why.
    """
    folder = folder.resolve()
    setting = numbered(setting, folder)
    with contextlib.ExitStack() as stack:
        if prepared is None:
            prepared = stack.enter_context(Prepared(contract))
        stack.enter_context(locked(folder.parent))
        staging = stack.enter_context(staged(folder, options.overwrite))
        index, failure = run_staged(prepared, setting, folder, staging, options, progress)
    if failure is not None:
        raise failure
    return index


def run_staged(
    prepared: Prepared,
    setting: Setting,
    folder: Path,
    staging: Path,
    options: RunOptions,
    progress: Progress,
    tell: Callable[[Json], None] | None = None,
    notes: Sequence[str] = (),
) -> tuple[Json, EspdlQuantizeError | None]:
    """Run one iteration into a folder that somebody else has claimed and will put in its place.

    Args:
        prepared: of the contract.
        setting: what to quantize with, under the number of ``folder``.
        folder: where the iteration will be.
        staging: where to write it.
        options: how to run.
        progress: told of every stage.
        tell: given the index as it stands at the begin of each stage.
        notes: warnings to begin with.

    Returns:
        The content of iteration_index.json, and why the iteration failed, if it did.

    Raises:
        OutputFolderError: it has no place in this output folder.
        IterationError: its outcome cannot be written.
    """
    started = time.perf_counter()
    failure: EspdlQuantizeError | None = None
    contract = prepared.contract
    run = _Run(contract, prepared, setting, options, progress, folder, staging, tell)
    run.warnings += notes
    check_admission(folder, run.origin)
    with captured(staging / "console.log"):
        try:
            spilled = staging / SPILLED if options.reduced_memory else None
            with spilling_to(spilled), at_work(options.engine):
                _run_stages(run)
        except OutputFolderError:
            # It has no place in this output folder: not even a failed iteration is left.
            raise
        except (Exception, SystemExit) as error:
            with contextlib.suppress(OSError):
                traceback.print_exc()
            failure = _as_failure(error, run)
    index = _index(run, failure, time.perf_counter() - started)
    _write_outcome(run, index, failure)
    return index, failure


def numbered(setting: Setting, folder: Path) -> Setting:
    """Return the setting with the id that a folder named ``iter_N`` gives it."""
    number = iteration_number(folder)
    if number is None or number == setting.iteration_id:
        return setting
    return setting.model_copy(update={"iteration_id": number})


def _run_stages(run: _Run) -> None:
    contract, config, options = run.contract, run.contract.config, run.options
    artifacts.write_setting(run.staging, run.setting)
    run.warnings += [f"QUANT_CONFIG[{key!r}] is ignored" for key in contract.ignored_keys]
    with run.timed("check installation"):
        check_installation()
        check_device(config.device)
        target = probe_target(config.target, config.num_of_bits)
        resolved = resolve(run.setting, target, config.device)
        run.warnings += resolved.warnings
    seed_everything(options.seed)
    with run.timed("read calibration data"):
        pool = _read_calibration(run)
        batches = drawn(pool, options.draw, options.seed, config.calib_steps)
    with run.timed("prepare float model"):
        model, float_graph = run.prepared.float_model(batches[0])
        reference = FloatReference(run.outputs, contract, model)
        run.float_key = reference.key
        check_admission(run.folder, run.origin)
    with run.timed("score float model"):
        _score_float(run, reference, float_graph)
    with run.timed("quantize"):
        quantized = quantize(
            model,
            config,
            resolved,
            batches,
            run.progress,
            options.seed,
            options.engine,
            run.memory,
        )
        run.reused = quantized.reused
    run.warnings += quantized.warnings
    artifacts.write_applied(run.staging, resolved, quantized, target, run.warnings, options.seed)
    if not options.is_aside:
        _analyse(run, quantized, batches)
    with run.timed("export"):
        file = run.staging / "model.espdl"
        layouts = export(quantized, file, options.with_info, options.with_native)
    with run.timed("check model"):
        found = check_model(file, config.target, quantized.graph, layouts, batches, config.device)
        run.chip_check = artifacts.write_chip_check(run.staging, found)
        reject_illegal(found.legality, run.setting)
        run.warnings += found.warnings()
    # Last, so that an evaluation that fails, or that changes the graph, costs nothing else.
    with run.timed("evaluate"):
        seed_everything(options.seed)
        calibration = {digest for batch in pool for digest in batch_digests(batch)}
        watch = meter_of(run.outputs, reference.key, quantized.graph, calibration)
        run.scored = score(contract, quantized.graph, options.full_eval, watch, options.final)
        run.facts, told = facts_of(run.scored, calibration, config)
        run.warnings += [*run.scored.warnings, *told]
        write_samples(run.staging, run.scored.per_sample, run.scored.watcher)
        run.float_value = reference.value(run.scored.used)
        run.facts["final_by"] = final_evaluator(contract, options.full_eval)
        if options.is_aside:
            run.facts |= aside_facts(options.draw, file, run.scored, reference)
            # The model to deploy is the iteration's own.
            file.unlink()


def _analyse(run: _Run, quantized: QuantizedModel, batches: list[Batch]) -> None:
    config, engine = run.contract.config, run.options.engine
    with run.timed("analyse"):
        run.measured = measure(
            quantized.graph, batches, config.device, config.analyse_steps, run.progress, engine
        )
        run.counts = artifacts.write_analyses(run.staging, run.measured, quantized, config)


def _read_calibration(run: _Run) -> list[Batch]:
    def tell(done: int, total: int | None) -> None:
        run.progress.update(done, total, f"batch {done}")

    batches, length = run.prepared.batches(run.options.seed, tell)
    if length is not None and len(batches) < length:
        run.warnings.append(
            f"the first {len(batches)} of {length} calibration batches are used: more would not "
            "be kept in memory"
        )
    return batches


def _score_float(run: _Run, reference: FloatReference, graph: Any) -> None:
    """Score the float graph where this output folder has no score of it yet.

    What is wrong with the evaluation is found here, before the time of an iteration is spent.
    """
    if not run.options.score_float:
        return
    full, final = run.options.full_eval, run.options.final
    if reference.is_complete(evaluator_of(run.contract, full, final)):
        return
    seed_everything(run.options.seed)
    scored = score_float(run.contract, graph, full, lambda _: FloatOutputs(), final)
    run.warnings += [f"float model: {warning}" for warning in scored.warnings]
    reference.store(scored)


def _as_failure(error: BaseException, run: _Run) -> EspdlQuantizeError:
    cause: BaseException | None = error
    while cause is not None:
        if is_full_disk(cause):
            return full_disk(run.outputs, run.stage)
        cause = cause.__cause__ or cause.__context__
    if not isinstance(error, EspdlQuantizeError):
        told = IterationError(f"{run.stage} failed: {describe_failure(error)}")
        told.__cause__ = error
        error = told
    failure = located(error, run.contract)
    if failure.__cause__ is None:
        return failure
    mends = [failure.mend, "console.log has the whole trace"]
    return failure.reworded(failure.cause, "; ".join(filter(None, mends)))


def _index(run: _Run, failure: EspdlQuantizeError | None, elapsed: float) -> Json:
    config = run.contract.config
    worst = list(run.measured.layerwise.items())[:5] if run.measured else []
    return {
        "iteration_id": run.setting.iteration_id,
        "status": "failed" if failure else "ok",
        "error": (
            {"stage": run.stage, "cause": failure.cause, "mend": failure.mend} if failure else None
        ),
        "rationale": run.setting.rationale,
        "model_path": None if failure else "model.espdl",
        "contract_path": str(run.contract.path),
        "model_name": run.contract.model_name,
        "target_chip": config.target,
        "elapsed_seconds": round(elapsed, 3),
        "elapsed_by_stage": run.seconds,
        "reused": [asdict(one) for one in run.reused],
        "primary_metric": config.primary_metric,
        "primary_value": run.scored.value if run.scored and not failure else None,
        "float_value": run.float_value,
        "float_reference_key": run.float_key,
        "evaluated_by": run.scored.used if run.scored else None,
        **run.facts,
        "metric_direction": config.metric_direction,
        "target_metric": config.target_metric,
        "deploy_runtime_priority": config.deploy_runtime_priority,
        "non_computing_top_k": config.non_computing_top_k,
        "non_computing_hot_ops_count": run.counts.get("non_computing_hot_ops_count", 0),
        "graphwise_jumps_count": run.counts.get("graphwise_jumps_count", 0),
        "chip_check": run.chip_check,
        "top_5_error_layers": [{"op": op, "snr": snr} for op, snr in worst],
        "applied_setting_warnings": run.warnings,
        "seed": run.options.seed,
        "engine": run.options.engine,
        "reduced_memory": run.options.reduced_memory,
        "esp_ppq_version": esp_ppq_version(),
    }


def _write_outcome(run: _Run, index: Json, failure: EspdlQuantizeError | None) -> None:
    """Write the last two files, the index after all others: it is what makes a folder whole."""
    sweep_up(run.staging, failed_at=None if failure is None else run.stage)
    try:
        scored = None if failure else run.scored
        error = str(failure) if failure else ""
        artifacts.write_metrics(run.staging, run.contract.config, scored, error, run.facts)
        write_json(run.staging / INDEX, index)
    except OSError as error:
        # Not even the outcome fits on the disk: leave no folder, and say why.
        raise _as_failure(error, run) from error
