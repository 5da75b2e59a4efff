"""Runs one iteration: quantize, analyse, export, score, and leave a folder that says it all."""

from __future__ import annotations

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espdl_quantize.chip import ChipCheck, check_model, reject_illegal
from espdl_quantize.contract import (
    Batch,
    Contract,
    count_samples,
    first_samples,
    note_of_repeats,
    warn_of_few,
)
from espdl_quantize.core import (
    ContractError,
    EspdlQuantizeError,
    OutputFolderError,
    Progress,
    Stage,
)
from espdl_quantize.deploy import RecordedValues, choose, problem_of, write_card
from espdl_quantize.iteration import artifacts
from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._context import Context
from espdl_quantize.iteration._float_reference import FloatReference
from espdl_quantize.iteration._options import RunOptions
from espdl_quantize.iteration._outcome import as_failure, record_of, write_outcome
from espdl_quantize.iteration._per_sample import write_samples
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.iteration._score import (
    evaluator_of,
    facts_of,
    final_evaluator,
    meter_of,
    resample,
    score_float,
    score_quantized,
)
from espdl_quantize.iteration._signals import FloatOutputs
from espdl_quantize.iteration.auxiliary import auxiliary_facts, drawn
from espdl_quantize.iteration.compatibility import check_compatibility, has_scored_beside
from espdl_quantize.iteration.effect import key_of_run, same_as_earlier
from espdl_quantize.iteration.examination import Examine
from espdl_quantize.ppq import (
    FloatModel,
    QuantizedModel,
    batch_digests,
    check_installation,
    describe_failure,
    engine_for,
    export,
    graph_digest,
    prepare_device,
    probe_target,
    quantize,
    run_forward,
    seed_everything,
    spilling_to,
)
from espdl_quantize.record import (
    IterationRecord,
    iteration_number,
    locked,
    staged,
    write_setting,
)
from espdl_quantize.record.files import LOG, MODEL, SPILLED, TEST_MODEL
from espdl_quantize.setting import Setting, resolve, with_calibration


def run_iteration(
    contract: Contract,
    setting: Setting,
    folder: Path,
    options: RunOptions,
    progress: Progress,
    prepared: Prepared | None = None,
    *,
    examine: Examine | None = None,
) -> IterationRecord:
    """Run one iteration into ``folder``, which appears only when it is whole.

    Args:
        contract: the user's module.
        setting: what to quantize with. A folder named ``iter_N`` decides the iteration's id.
        folder: the iteration's folder; the folder above it is the output folder.
        options: how to run.
        progress: notified of every stage.
        prepared: of this contract, where more iterations are to come in this process.
        examine: called before the first iteration of an output folder, such as
            :func:`espdl_quantize.gate.examine_first`; None for no examination.

    Returns:
        The record of the iteration, which has a score unless it is without effect.

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
        staging = stack.enter_context(staged(folder, overwrite=options.overwrite))
        record, failure = run_staged(
            prepared, setting, folder, staging, options, progress, examine=examine
        )
    if failure is not None:
        raise failure
    return record


def run_staged(
    prepared: Prepared,
    setting: Setting,
    folder: Path,
    staging: Path,
    options: RunOptions,
    progress: Progress,
    *,
    on_draft: Callable[[IterationRecord], None] | None = None,
    notes: Sequence[str] = (),
    examine: Examine | None = None,
) -> tuple[IterationRecord, EspdlQuantizeError | None]:
    """Run one iteration into a folder that somebody else has claimed and will put in its place.

    Args:
        prepared: of the contract.
        setting: what to quantize with, under the number of ``folder``.
        folder: where the iteration will be.
        staging: where to write it.
        options: how to run.
        progress: notified of every stage.
        on_draft: given the record as it stands at the begin of each stage.
        notes: warnings to begin with.
        examine: called before the first iteration of an output folder.

    Returns:
        The record of the iteration, and why it failed, if it did.

    Raises:
        OutputFolderError: it has no place in this output folder.
        IterationError: its outcome cannot be written.
    """
    started = time.perf_counter()
    failure: EspdlQuantizeError | None = None
    contract = prepared.contract
    # The folder says what ran, also to a reader that does not know the contract's width.
    setting = with_calibration(setting, contract.config.num_of_bits)
    context = Context(contract, prepared, setting, options, progress, folder, staging)
    context.warnings += notes
    if on_draft is not None:
        context.on_stage = lambda now: on_draft(record_of(now, None, 0.0))
    check_compatibility(folder, context.origin)
    with captured(staging / LOG):
        try:
            spilled = staging / SPILLED if options.reduced_memory else None
            with spilling_to(spilled):
                write_setting(staging, setting)
                if examine is not None:
                    _examine(context, examine)
                context.engine = engine_for(options.engine)
                with context.engine.install():
                    _run_stages(context)
        except OutputFolderError:
            raise  # It has no place in this output folder: not even a failed iteration is left.
        except (Exception, SystemExit) as error:
            with contextlib.suppress(OSError):
                traceback.print_exc()
            failure = as_failure(error, context)
    if isinstance(failure, ContractError) and has_scored_beside(folder):
        # The scores beside it are of a contract that had no such fault: it is no try of the search.
        raise failure
    record = record_of(context, failure, time.perf_counter() - started)
    write_outcome(context, record, failure)
    return record, failure


def numbered(setting: Setting, folder: Path) -> Setting:
    """Return the setting with the id that a folder named ``iter_N`` gives it."""
    number = iteration_number(folder)
    if number is None or number == setting.iteration_id:
        return setting
    return setting.model_copy(update={"iteration_id": number})


def _run_stages(context: Context) -> None:
    contract, config, options = context.contract, context.contract.config, context.options
    context.warnings += [f"QUANT_CONFIG[{key!r}] is ignored" for key in contract.ignored_keys]
    with context.timed(Stage.CHECK_INSTALLATION):
        check_installation()
        prepare_device(config.device)
        target = probe_target(config.target, config.num_of_bits)
        resolved = resolve(context.setting, target, config.device, esp_dl=config.esp_dl)
        context.warnings += resolved.warnings
    seed_everything(options.seed)
    with context.timed(Stage.READ_CALIBRATION):
        pool = _read_calibration(context)
        batches = drawn(pool, options.draw, options.seed, config.calib_steps)
        notes = warn_of_few(count_samples(batches[: config.calib_steps]))
        notes += note_of_repeats(len(pool), config.calib_steps)
        notes += context.prepared.notes
        context.warnings += [note for note in notes if note not in context.warnings]
    with context.timed(Stage.PREPARE_FLOAT_MODEL):
        model, float_graph = context.prepared.float_model(batches[0])
        resolved = context.fitted(resolved, float_graph, target)
        reference = FloatReference(context.outputs, contract, model)
        context.float_key = reference.key
        check_compatibility(context.folder, context.origin)
        mismatch = context.prepared.mismatch(batches[0], allow=options.allow_mismatch)
        if mismatch is not None:
            context.float_mismatch = mismatch
            context.warnings.append(f"the mismatch was allowed: {mismatch}")
    # What a step of training costs is a multiple of it.
    with context.timed(Stage.RUN_ONE_BATCH):
        run_forward(model, float_graph, batches[0])
    with context.timed(Stage.SCORE_FLOAT_MODEL):
        _score_float(context, reference, float_graph, model)
    context.quantized_by = key_of_run(context, resolved)
    context.same_as = same_as_earlier(context, quantized_by=context.quantized_by)
    if context.same_as is not None:
        return
    with context.timed(Stage.QUANTIZE):
        quantized = quantize(
            model,
            config,
            resolved,
            batches,
            context.progress,
            engine=context.engine,
            seed=options.seed,
            memory=context.memory,
        )
        context.reused = quantized.reused
        context.graph_sha256 = graph_digest(quantized.graph, resolved.setting)
    context.warnings += quantized.warnings
    artifacts.write_graph_and_setting(
        context.staging, resolved, quantized, target, context.all_warnings, options.seed
    )
    context.same_as = same_as_earlier(context, graph_sha256=context.graph_sha256)
    if context.same_as is not None:
        return
    if options.analyse and not options.is_auxiliary:
        _analyse(context, quantized, batches)
    with context.timed(Stage.EXPORT):
        file = context.staging / MODEL
        recorded = _test_values(context, quantized, batches)
        layouts = export(
            quantized,
            file,
            engine=context.engine,
            with_info=options.with_info,
            with_native=options.with_native,
            test_values=recorded[1] if recorded else None,
        )
    with context.timed(Stage.CHECK_MODEL):
        streams = context.setting.streaming is not None
        check = check_model(
            file,
            config.target,
            None if streams else quantized.graph,
            layouts,
            batches,
            config.device,
            engine=context.engine,
            esp_dl=config.esp_dl,
        )
        context.on_chip = artifacts.write_chip_check(context.staging, check)
        reject_illegal(check.legality, context.setting)
        context.warnings += check.warnings()
        if not options.is_auxiliary:
            context.warnings += artifacts.write_chip_cost(
                context.staging, context.outputs, config.target
            )
        if context.measured is not None:
            context.warnings += artifacts.write_widths_of(
                context.staging,
                context.outputs,
                quantized,
                check.legality.model,
                batches,
                config,
                context.measured.layerwise,
                context.progress,
            )
        if not options.is_auxiliary:
            sample, values = recorded or (first_samples(batches, 1)[0], None)
            _describe(context, check, quantized, layouts, sample, values)
    # Last, so that an evaluation that fails, or that changes the graph, costs nothing else.
    with context.timed(Stage.EVALUATE):
        seed_everything(options.seed)
        names = list(quantized.graph.inputs)
        calibration = {digest for batch in pool for digest in batch_digests(batch, names)}
        watch = meter_of(
            context.outputs, reference.key, quantized.graph, calibration, model.batch_axes
        )
        context.scored = score_quantized(
            contract,
            quantized.graph,
            full=options.full_eval,
            make_watcher=watch,
            final=options.final,
            known=reference.value,
            unlabelled=context.prepared.agreement(options.seed),
        )
        replicates, order, doubts = resample(contract, context.scored)
        context.warnings += doubts
        facts, notes = facts_of(
            context.scored, calibration, config, is_resampled=replicates is not None
        )
        context.warnings += [*context.scored.warnings, *notes]
        per_sample, watcher = context.scored.per_sample, context.scored.watcher
        write_samples(context.staging, per_sample, watcher, replicates, order)
        context.float_value = reference.value(context.scored.used)
        context.facts = replace(facts, final_by=final_evaluator(contract, full=options.full_eval))
        if options.is_auxiliary:
            context.facts = auxiliary_facts(
                context.facts, options.draw, file, context.scored, reference
            )
            file.unlink()  # The model to deploy is the iteration's own.


def _examine(context: Context, examine: Examine) -> None:
    """Find what is wrong with the contract before the first iteration, in one go."""
    if context.options.is_auxiliary or has_scored_beside(context.folder):
        return
    with context.timed(Stage.EXAMINE), tempfile.TemporaryDirectory(dir=context.staging) as scratch:
        examination = examine(context.prepared, context.options, Path(scratch), context.progress)
    context.warnings += examination.warnings
    context.examined = examination.scored


def _analyse(context: Context, quantized: QuantizedModel, batches: list[Batch]) -> None:
    config, sizes = context.contract.config, [batch.sample_count for batch in batches]
    steps = config.steps_of_analyses(sizes, context.options.analysed)
    context.analysed_samples = sum(sizes[: steps + 1])
    with context.timed(Stage.ANALYSE):
        context.measured = context.engine.measure(
            quantized.graph, batches, config.device, steps, context.progress
        )
        context.hot_ops_count, context.jumps_count = artifacts.write_analyses(
            context.staging, context.measured, quantized, config
        )


def _test_values(
    context: Context, quantized: QuantizedModel, batches: list[Batch]
) -> tuple[Batch, RecordedValues] | None:
    """Return a calibration sample and what the graph makes of it, where they are asked for."""
    if context.options.is_auxiliary or not context.options.test_values:
        return None
    if context.setting.streaming is not None:
        # A sample is of the whole model.
        return None
    try:
        return choose(quantized.graph, batches, context.contract.config.device)
    except Exception as error:
        # The model does not depend on them.
        traceback.print_exc()
        context.warnings.append(f"no test values were recorded: {describe_failure(error)}")
        return None


def _describe(
    context: Context,
    check: ChipCheck,
    quantized: QuantizedModel,
    layouts: dict[str, tuple[int, ...]],
    sample: Batch,
    values: RecordedValues | None,
) -> None:
    """Check the copy with test values, and write what a program needs to know of the model."""
    model, chip = check.legality.model, context.contract.config.target
    if model is None:
        return
    if values is not None:
        problem = problem_of(model, context.staging / TEST_MODEL, values, layouts, chip)
        if problem:
            (context.staging / TEST_MODEL).unlink(missing_ok=True)
            context.warnings.append(f"no test values were recorded: {problem}")
    integers = check.integers
    if integers is not None and integers.end_to_end is not None:
        whole = integers.end_to_end
        if whole.exact < whole.outputs:
            # The check is of several samples, and one of them is recorded.
            alone = check_model(
                context.staging / MODEL,
                chip,
                quantized.graph,
                layouts,
                [sample],
                context.contract.config.device,
                samples=1,
                engine=context.engine,
            )
            integers = alone.integers
    agreement = integers.end_to_end if integers else None
    write_card(context.staging, model, layouts, chip, sample, agreement)


def _read_calibration(context: Context) -> list[Batch]:
    def show(done: int, total: int | None) -> None:
        context.progress.update(done, total, f"batch {done}")

    batches, length = context.prepared.batches(context.options.seed, show)
    if length is not None and len(batches) < length:
        context.warnings.append(
            f"the first {len(batches)} of {length} calibration batches are used: more data is not "
            "kept"
        )
    return batches


def _score_float(
    context: Context, reference: FloatReference, graph: Any, model: FloatModel
) -> None:
    """Score the float graph where this output folder has no score of it yet.

    What is wrong with the evaluation is found here, before the time of an iteration is spent.
    """
    if not context.options.score_float:
        return
    full, final = context.options.full_eval, context.options.final
    if reference.is_complete(evaluator_of(context.contract, full=full, final=final)):
        return
    scored = context.examined
    if scored is None:
        seed_everything(context.options.seed)
        scored = score_float(
            context.contract,
            graph,
            full=full,
            make_watcher=lambda _: FloatOutputs(model.batch_axes),
            final=final,
            unlabelled=context.prepared.agreement(context.options.seed),
        )
    context.warnings += [f"float model: {warning}" for warning in scored.warnings]
    reference.store(scored)
