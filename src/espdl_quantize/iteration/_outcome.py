"""What came of an iteration: its index, its metrics, and why it failed if it did."""

from __future__ import annotations

from dataclasses import asdict

from espdl_quantize.contract import located
from espdl_quantize.core import EspdlQuantizeError, IterationError, Json, is_full_disk, write_json
from espdl_quantize.iteration import _artifacts as artifacts
from espdl_quantize.iteration._current import Run
from espdl_quantize.iteration._lost import error_of, full_disk, sweep_up
from espdl_quantize.ppq import describe_failure, esp_ppq_version
from espdl_quantize.record._staging import INDEX


def as_failure(error: BaseException, run: Run) -> EspdlQuantizeError:
    """Return what is to be told of an error that ended an iteration."""
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
    hints = [failure.hint, "console.log has the whole trace"]
    return failure.reworded(failure.cause, "; ".join(filter(None, hints)))


def index_of(run: Run, failure: EspdlQuantizeError | None, elapsed: float) -> Json:
    """Return the content of iteration_index.json, as far as it is known."""
    config = run.contract.config
    worst = list(run.measured.layerwise.items())[:5] if run.measured else []
    return {
        "iteration_id": run.setting.iteration_id,
        "status": "failed" if failure else "ok",
        "error": None if failure is None else error_of(run.stage, failure),
        "rationale": run.setting.rationale,
        "model_path": None if failure else "model.espdl",
        "contract_path": str(run.contract.path),
        "model_name": run.contract.model_name,
        "target_chip": config.target,
        "num_of_bits": config.num_of_bits,
        "elapsed_seconds": round(elapsed, 3),
        "elapsed_by_stage": run.seconds,
        "reused": [asdict(one) for one in run.reused],
        "primary_metric": config.primary_metric,
        "primary_value": run.scored.value if run.scored and not failure else None,
        "float_value": run.float_value,
        "float_reference_key": run.float_key,
        "contract_key": run.contract.fingerprint,
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
        "applied_setting_warnings": run.all_warnings,
        "seed": run.options.seed,
        "engine": run.options.engine,
        "engine_fallbacks": [record.as_json() for record in run.engine.records],
        "reduced_memory": run.options.reduced_memory,
        "esp_ppq_version": esp_ppq_version(),
    }


def write_outcome(run: Run, index: Json, failure: EspdlQuantizeError | None) -> None:
    """Write the last two files, the index after all others: it is what makes a folder whole."""
    sweep_up(run.staging, failed_at=None if failure is None else run.stage)
    try:
        scored = None if failure else run.scored
        error = str(failure) if failure else ""
        artifacts.write_metrics(run.staging, run.contract.config, scored, error, run.facts)
        write_json(run.staging / INDEX, index)
    except OSError as error:
        # Not even the outcome fits on the disk: leave no folder, and say why.
        raise as_failure(error, run) from error
