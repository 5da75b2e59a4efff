"""Runs one iteration: quantize, analyse, export, score, and leave a folder that says it all."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from espdl_quantize.analysis import measure
from espdl_quantize.chip import check_model, reject_illegal
from espdl_quantize.contract import Batch, Contract
from espdl_quantize.errors import ContractError, EspdlQuantizeError, OutputFolderError
from espdl_quantize.iteration import _artifacts as artifacts
from espdl_quantize.iteration._admission import check_admission, has_scored_beside
from espdl_quantize.iteration._aside import aside_facts, drawn
from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._current import Run
from espdl_quantize.iteration._float_reference import FloatReference
from espdl_quantize.iteration._folder import iteration_number, locked, staged
from espdl_quantize.iteration._lost import SPILLED
from espdl_quantize.iteration._options import RunOptions
from espdl_quantize.iteration._outcome import as_failure, index_of, write_outcome
from espdl_quantize.iteration._per_sample import write_samples
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._score import (
    evaluator_of,
    facts_of,
    final_evaluator,
    meter_of,
    score,
    score_float,
)
from espdl_quantize.iteration._signals import FloatOutputs
from espdl_quantize.jsonio import Json
from espdl_quantize.quantize import (
    Progress,
    QuantizedModel,
    at_work,
    batch_digests,
    check_device,
    check_installation,
    export,
    quantize,
    seed_everything,
    spilling_to,
)
from espdl_quantize.setting import Setting, resolve, with_calibration
from espdl_quantize.targets import probe_target


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
    # The folder says what ran, also to a reader that does not know the contract's width.
    setting = with_calibration(setting, contract.config.num_of_bits)
    run = Run(contract, prepared, setting, options, progress, folder, staging)
    run.warnings += notes
    if tell is not None:
        run.tell = lambda current: tell(index_of(current, None, 0.0))
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
            failure = as_failure(error, run)
    if isinstance(failure, ContractError) and has_scored_beside(folder):
        # The scores beside it are of a contract that had no such fault: it is no try of the search.
        raise failure
    index = index_of(run, failure, time.perf_counter() - started)
    write_outcome(run, index, failure)
    return index, failure


def numbered(setting: Setting, folder: Path) -> Setting:
    """Return the setting with the id that a folder named ``iter_N`` gives it."""
    number = iteration_number(folder)
    if number is None or number == setting.iteration_id:
        return setting
    return setting.model_copy(update={"iteration_id": number})


def _run_stages(run: Run) -> None:
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
        run.scored = score(
            contract, quantized.graph, options.full_eval, watch, options.final, reference.value
        )
        run.facts, told = facts_of(run.scored, calibration, config)
        run.warnings += [*run.scored.warnings, *told]
        write_samples(run.staging, run.scored.per_sample, run.scored.watcher)
        run.float_value = reference.value(run.scored.used)
        run.facts["final_by"] = final_evaluator(contract, options.full_eval)
        if options.is_aside:
            run.facts |= aside_facts(options.draw, file, run.scored, reference)
            # The model to deploy is the iteration's own.
            file.unlink()


def _analyse(run: Run, quantized: QuantizedModel, batches: list[Batch]) -> None:
    config, engine = run.contract.config, run.options.engine
    with run.timed("analyse"):
        run.measured = measure(
            quantized.graph, batches, config.device, config.analyse_steps, run.progress, engine
        )
        run.counts = artifacts.write_analyses(run.staging, run.measured, quantized, config)


def _read_calibration(run: Run) -> list[Batch]:
    def tell(done: int, total: int | None) -> None:
        run.progress.update(done, total, f"batch {done}")

    batches, length = run.prepared.batches(run.options.seed, tell)
    if length is not None and len(batches) < length:
        run.warnings.append(
            f"the first {len(batches)} of {length} calibration batches are used: more data is not "
            "kept"
        )
    return batches


def _score_float(run: Run, reference: FloatReference, graph: Any) -> None:
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
