"""What came of an iteration: its record, its metrics, and why it failed if it did.

Also what is left of one that ended badly: on a full disk, or with its whole process.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from espdl_quantize.contract import located
from espdl_quantize.core import (
    Direction,
    Engine,
    EspdlQuantizeError,
    IterationError,
    Json,
    Priority,
    Stage,
    is_full_disk,
    join_hints,
)
from espdl_quantize.iteration._context import Context
from espdl_quantize.ppq import describe_failure, esp_ppq_version
from espdl_quantize.record import (
    EngineFallback,
    Failure,
    IterationRecord,
    LayerError,
    ReusedPass,
    budgets_of,
    write_metrics,
    write_setting,
)
from espdl_quantize.record.files import FLOAT_MODEL, LOG, MODEL, SETTING, SPILLED
from espdl_quantize.setting import Setting

_WORKING_FILES = (FLOAT_MODEL, f"{FLOAT_MODEL}.data", SPILLED)
_WHILE_A_MODEL_IS_MADE = (Stage.EXPORT, Stage.CHECK_MODEL)
_HALF_WRITTEN = ".*.tmp"
"""What :func:`espdl_quantize.core.write_json` writes to before it renames."""

_WORST_LAYERS = 5


def as_failure(error: BaseException, context: Context) -> EspdlQuantizeError:
    """Return the error that says of a user's iteration what ended it."""
    cause: BaseException | None = error
    while cause is not None:
        if is_full_disk(cause):
            return full_disk(context.outputs, context.stage)
        cause = cause.__cause__ or cause.__context__
    if not isinstance(error, EspdlQuantizeError):
        failure = IterationError(f"{context.stage} failed: {describe_failure(error)}")
        failure.__cause__ = error
        error = failure
    located_error = located(error, context.contract)
    if located_error.__cause__ is None:
        return located_error
    hints = [located_error.hint, f"{LOG} has the whole trace"]
    return located_error.reworded(located_error.cause, join_hints(hints))


def full_disk(outputs: Path, stage: str) -> IterationError:
    """Return the error that names a full disk."""
    return IterationError(
        f"the disk that holds {outputs} is full (while: {stage})",
        "free some space and run the same command again",
    )


def record_of(
    context: Context, failure: EspdlQuantizeError | None, elapsed: float
) -> IterationRecord:
    """Return the record of an iteration, as far as it is known."""
    config, options = context.contract.config, context.options
    scored = None if failure is not None else context.scored
    worst = list(context.measured.layerwise.items())[:_WORST_LAYERS] if context.measured else []
    return IterationRecord(
        id=context.setting.iteration_id,
        failure=None if failure is None else Failure.of(context.stage, failure),
        rationale=context.setting.rationale,
        model_path=None if failure is not None or context.same_as is not None else MODEL,
        contract_path=context.contract.command_path,
        model_name=context.contract.model_name,
        target_chip=config.target,
        esp_dl_version=config.esp_dl_version,
        target_given=context.contract.target_given,
        num_of_bits=config.num_of_bits,
        elapsed_seconds=round(elapsed, 3),
        elapsed_by_stage=dict(context.seconds),
        reused=tuple(ReusedPass(**asdict(each)) for each in context.reused),
        metric=config.primary_metric,
        value=None if scored is None else scored.value,
        float_value=context.float_value,
        float_reference_key=context.float_key,
        float_mismatch=context.float_mismatch,
        contract_key=context.contract.fingerprint,
        same_as=None if failure is not None else context.same_as,
        quantized_by=context.quantized_by,
        graph_sha256=context.graph_sha256,
        evaluated_by=context.scored.used if context.scored else None,
        direction=Direction(config.metric_direction),
        target=config.target_metric,
        budgets=budgets_of(config),
        deploy_runtime_priority=Priority(config.deploy_runtime_priority),
        non_computing_top_k=config.non_computing_top_k,
        non_computing_hot_ops_count=context.hot_ops_count,
        graphwise_jumps_count=context.jumps_count,
        analysed_samples=context.analysed_samples,
        on_chip=context.on_chip,
        top_5_error_layers=tuple(LayerError(op, float(snr)) for op, snr in worst),
        warnings=tuple(context.all_warnings),
        seed=options.seed,
        strategy=options.strategy,
        beside=options.beside,
        engine=Engine(options.engine),
        engine_fallbacks=tuple(
            EngineFallback(each.part, each.layer, each.reason) for each in context.engine.records
        ),
        reduced_memory=options.reduced_memory,
        esp_ppq_version=esp_ppq_version(),
        **vars(context.facts),
    )


def write_outcome(
    context: Context, record: IterationRecord, failure: EspdlQuantizeError | None
) -> None:
    """Write the last two files, the record after all others: it is what makes a folder whole."""
    sweep_up(context.staging, failed_at=None if failure is None else context.stage)
    returned = context.scored.metrics if context.scored and failure is None else None
    try:
        why = str(failure or "")
        if record.is_without_effect:
            why = f"no effect: the quantized graph is that of iter_{record.same_as}"
        write_metrics(context.staging, record, returned, error=why)
        record.write(context.staging)
    except OSError as error:
        # Not even the outcome fits on the disk: leave no folder, and say why.
        raise as_failure(error, context) from error


def sweep_up(staging: Path, failed_at: str | None) -> None:
    """Remove what is no artifact.

    Args:
        staging: the iteration's folder.
        failed_at: the stage that did not come to its end. Half a model, or one that no chip can
            run, must not be taken for one; and on a full disk this frees the space for what is
            still to be written.
    """
    for name in _WORKING_FILES:
        _remove(staging / name)
    for file in staging.glob(_HALF_WRITTEN):
        _remove(file)
    if failed_at in _WHILE_A_MODEL_IS_MADE:
        for file in staging.glob("model.*"):
            _remove(file)


def first_draft(
    setting: Setting, facts: Json, options: Json, warnings: Sequence[str] = ()
) -> IterationRecord:
    """Return what is known of an iteration whose process has not said anything.

    Args:
        setting: under the number of the iteration.
        facts: of the contract, by name, as far as they are known.
        options: that it was to run with: fields of :class:`RunOptions`.
        warnings: to begin with.
    """
    same = (
        "contract_path",
        "model_name",
        "target_chip",
        "target_given",
        "esp_dl_version",
        "num_of_bits",
        "contract_key",
        "metric",
        "direction",
        "target",
        "budgets",
    )
    return IterationRecord(
        id=setting.iteration_id,
        rationale=setting.rationale,
        deploy_runtime_priority=facts.get("priority"),
        warnings=tuple(warnings),
        seed=options.get("seed"),
        strategy=options.get("strategy"),
        beside=tuple(options.get("beside", ())),
        engine=options.get("engine"),
        reduced_memory=options.get("reduced_memory"),
        **{name: facts[name] for name in same if name in facts},
    )


def record_crash(
    staging: Path,
    setting: Setting,
    draft: IterationRecord,
    *,
    stage: str,
    failure: EspdlQuantizeError,
    elapsed: float,
    seconds: Mapping[str, float],
) -> IterationRecord:
    """Record a failed iteration on behalf of a process that is no more.

    Args:
        staging: what it has written so far.
        setting: what it ran.
        draft: the record as it last stood.
        stage: the last one that was heard of.
        failure: what became of the process.
        elapsed: seconds from begin to end.
        seconds: by stage.

    Returns:
        The record, as it was written.

    Raises:
        IterationError: the disk is full.
    """
    record = replace(
        draft,
        failure=Failure.of(stage, failure),
        model_path=None,
        value=None,
        elapsed_seconds=round(elapsed, 3),
        elapsed_by_stage=dict(seconds),
    )
    sweep_up(staging, failed_at=stage)
    try:
        if not (staging / SETTING).exists():
            write_setting(staging, setting)
        write_metrics(staging, record, None, error=str(failure))
        record.write(staging)
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(staging.parent, stage) from error
        raise
    return record


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
