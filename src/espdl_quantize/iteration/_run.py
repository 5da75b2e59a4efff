"""Runs one iteration: quantize, analyse, export, score, and leave a folder that says it all."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from espdl_quantize.chip import ChipCheck, check_model, reject_illegal
from espdl_quantize.contract import Batch, Contract, count_samples, first_samples, warn_of_few
from espdl_quantize.core import ContractError, EspdlQuantizeError, Json, OutputFolderError, Progress
from espdl_quantize.deploy import RecordedValues, problem_of, simulate, write_card
from espdl_quantize.iteration import _artifacts as artifacts
from espdl_quantize.iteration._admission import check_admission, has_scored_beside
from espdl_quantize.iteration._aside import aside_facts, drawn
from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._current import Run
from espdl_quantize.iteration._float_reference import FloatReference
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
from espdl_quantize.ppq import (
    TEST_MODEL,
    QuantizedModel,
    batch_digests,
    check_device,
    check_installation,
    describe_failure,
    engine_for,
    export,
    probe_target,
    quantize,
    run_forward,
    seed_everything,
    spilling_to,
)
from espdl_quantize.record._staging import FORWARD, iteration_number, locked, staged
from espdl_quantize.setting import Setting, resolve, with_calibration


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
            run.engine = engine_for(options.engine)
            with spilling_to(spilled), run.engine.install():
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
        run.warnings += warn_of_few(count_samples(batches[: config.calib_steps]))
    with run.timed("prepare float model"):
        model, float_graph = run.prepared.float_model(batches[0])
        reference = FloatReference(run.outputs, contract, model)
        run.float_key = reference.key
        check_admission(run.folder, run.origin)
    # What a step of training costs is a multiple of it.
    with run.timed(FORWARD):
        run_forward(model, float_graph, batches[0])
    with run.timed("score float model"):
        _score_float(run, reference, float_graph)
    with run.timed("quantize"):
        quantized = quantize(
            model,
            config,
            resolved,
            batches,
            run.progress,
            engine=run.engine,
            seed=options.seed,
            memory=run.memory,
        )
        run.reused = quantized.reused
    run.warnings += quantized.warnings
    artifacts.write_applied(
        run.staging, resolved, quantized, target, run.all_warnings, options.seed
    )
    if not options.is_aside:
        _analyse(run, quantized, batches)
    with run.timed("export"):
        file = run.staging / "model.espdl"
        values = _test_values(run, quantized, batches)
        layouts = export(
            quantized,
            file,
            engine=run.engine,
            with_info=options.with_info,
            with_native=options.with_native,
            test_values=values,
        )
    with run.timed("check model"):
        found = check_model(
            file,
            config.target,
            quantized.graph,
            layouts,
            batches,
            config.device,
            engine=run.engine,
        )
        run.chip_check = artifacts.write_chip_check(run.staging, found)
        reject_illegal(found.legality, run.setting)
        run.warnings += found.warnings()
        if not options.is_aside:
            _describe(run, found, quantized, layouts, first_samples(batches, 1)[0], values)
    # Last, so that an evaluation that fails, or that changes the graph, costs nothing else.
    with run.timed("evaluate"):
        seed_everything(options.seed)
        names = list(quantized.graph.inputs)
        calibration = {digest for batch in pool for digest in batch_digests(batch, names)}
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
    config = run.contract.config
    with run.timed("analyse"):
        run.measured = run.engine.measure(
            quantized.graph, batches, config.device, config.analyse_steps, run.progress
        )
        run.counts = artifacts.write_analyses(run.staging, run.measured, quantized, config)


def _test_values(
    run: Run, quantized: QuantizedModel, batches: list[Batch]
) -> RecordedValues | None:
    """Return a calibration sample and what the graph makes of it, where they are asked for."""
    if run.options.is_aside or not run.options.test_values:
        return None
    try:
        sample = first_samples(batches, 1)[0]
        return simulate(quantized.graph, sample, run.contract.config.device)
    except Exception as error:
        # The model does not depend on them.
        traceback.print_exc()
        run.warnings.append(f"no test values were recorded: {describe_failure(error)}")
        return None


def _describe(
    run: Run,
    found: ChipCheck,
    quantized: QuantizedModel,
    layouts: dict[str, tuple[int, ...]],
    sample: Batch,
    values: RecordedValues | None,
) -> None:
    """Check the copy with test values, and write what a program needs to know of the model."""
    model, chip = found.legality.model, run.contract.config.target
    if model is None:
        return
    if values is not None:
        problem = problem_of(model, run.staging / TEST_MODEL, values, layouts, chip)
        if problem:
            (run.staging / TEST_MODEL).unlink(missing_ok=True)
            run.warnings.append(f"no test values were recorded: {problem}")
    integers = found.integers
    if integers is not None and integers.end_to_end is not None:
        whole = integers.end_to_end
        if whole.exact < whole.outputs:
            # The check is of several samples, and one of them is recorded.
            alone = check_model(
                run.staging / "model.espdl",
                chip,
                quantized.graph,
                layouts,
                [sample],
                run.contract.config.device,
                samples=1,
                engine=run.engine,
            )
            integers = alone.integers
    agreement = integers.end_to_end if integers else None
    write_card(run.staging, model, layouts, chip, sample, agreement)


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
