"""The content of comparison.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from espdl_quantize.core import Phase
from espdl_quantize.record import GENERATOR, Attempt, Failure, History, Iteration
from espdl_quantize.report._certainty import certainty_of, final_of, score_source
from espdl_quantize.report._commands import early_finalize_command, retry_command
from espdl_quantize.report._finalize import FinalizePlan
from espdl_quantize.search import (
    Crashes,
    Decision,
    Open,
    Proposal,
    SearchState,
    describe_changes,
    runtime_cost,
)
from espdl_quantize.setting import Setting

Json = dict[str, Any]


def build_comparison(
    situation: SearchState, decision: Decision, plan: FinalizePlan, warnings: list[str]
) -> Json:
    """Put history and decision into plain data.

    Args:
        situation: the history with settled options.
        decision: the next step.
        plan: what this call writes.
        warnings: what the reader of the ranking should know.
    """
    history = situation.history
    best = history.best
    return {
        "generated_by": GENERATOR,
        "primary_metric": history.metric,
        "metric_direction": history.direction,
        "target_metric": situation.options.target,
        "deploy_runtime_priority": situation.options.priority,
        "float_reference": dict(history.float_scores),
        "iterations": [_row(history, row) for row in history.iterations],
        "excluded_iterations": [_excluded(history, row) for row in history.excluded],
        "best_iteration": None if best is None else _best(history, best),
        "final": final_of(history),
        "score_source": score_source(history),
        "iteration_ranks": {str(row.id): rank_of(history, row) for row in history.iterations},
        "runtime_cost_classification": {str(row.id): cost_of(row) for row in history.iterations},
        "ranking_warnings": warnings,
        "early_finalize_command": early_finalize_command(
            history.folder, isinstance(decision, Open)
        ),
        "next_step_hint": _hint(history, decision, plan),
    }


def rank_of(history: History, row: Iteration) -> int | str:
    """Return the dense rank, "-" for a failed iteration."""
    rank = history.ranks[row.id]
    return "-" if rank is None else rank


def cost_of(row: Iteration) -> str:
    """Say whether an iteration's model runs slower on the chip."""
    return "unknown" if row.setting is None else str(runtime_cost(row.setting))


def delta_of(history: History, row: Iteration) -> float | None:
    """Return the difference to the best before, as the metric counts it."""
    prior = history.prior_best[row.id]
    if row.value is None or prior is None or prior.value is None:
        return None
    return row.value - prior.value


def outcome_of(history: History, row: Iteration) -> str:
    """Name what an iteration came to."""
    if row.value is None:
        return "failed"
    gain = history.gain(row)
    if gain is None:
        return "first score"
    found = history.versus(row, history.prior_best[row.id])
    if found is not None and found.verdict == "within noise":
        return "within noise"
    return "new best" if gain > 0 else "worse" if gain < 0 else "no change"


def changes_of(history: History, row: Iteration) -> str:
    """Say what an iteration changed against the best before it."""
    prior = history.prior_best[row.id]
    return describe_changes(prior.setting if prior else None, row.setting)


def failed_pass_of(failure: Failure) -> Json | None:
    """Return the pass that a failure lies in, its field in a setting, and the layer."""
    where = failure.failed_pass
    if where is None:
        return None
    return {"pass": where.name, "field": where.field or None, "layer": where.layer or None}


def attempt_of(attempt: Attempt) -> Json:
    """Return an earlier attempt at an iteration."""
    failure, where = attempt.failure, attempt.failure.failed_pass
    return {
        "ended_at": attempt.ended_at,
        "elapsed_seconds": attempt.seconds,
        "stage": failure.stage,
        "pass": None if where is None else where.name,
        "layer": None if where is None else where.layer or None,
        "cause": failure.cause,
    }


def attempts_of(row: Iteration) -> str:
    """Say how often an iteration failed before in its folder, and why last; empty where never."""
    if not row.attempts:
        return ""
    count, last = len(row.attempts), row.attempts[-1]
    told = f"{count} failed attempt{'s' if count > 1 else ''} before in this folder"
    when = f", the last on {last.ended_at}" if last.ended_at else ""
    return f"{told}{when}: {last.failure.stage}: {last.failure.cause}"


def ready_to_save(setting: Setting) -> Json:
    """Return a setting as the content of setting.json."""
    return setting.model_dump(exclude_none=True)


def _row(history: History, row: Iteration) -> Json:
    return {
        "iteration_id": row.id,
        "dir": str(row.folder.resolve()),
        "status": row.status,
        "error": None if row.failure is None else str(row.failure),
        "failed_pass": None if row.failure is None else failed_pass_of(row.failure),
        "attempts": [attempt_of(attempt) for attempt in row.attempts],
        "primary_metric": row.metric,
        "primary_value": row.value,
        "rank": rank_of(history, row),
        "delta_vs_prior_best": delta_of(history, row),
        "outcome": outcome_of(history, row),
        "changed": changes_of(history, row),
        "affects_inference_speed": cost_of(row),
        "evaluated_by": row.evaluated_by,
        "float_value": row.float_value,
        **certainty_of(history, row),
        "elapsed_seconds": row.elapsed_seconds,
        "device": None if row.device is None else row.device.summary(),
        "top_5_error_layers": [
            {"op": layer.op, "snr": layer.snr} for layer in row.top_5_error_layers
        ],
        "rationale": row.rationale,
        "engine": row.engine,
        "engine_fallbacks": [asdict(one) for one in row.engine_fallbacks],
        "applied_setting_warnings": list(row.warnings),
    }


def _excluded(history: History, row: Iteration) -> Json:
    told = [warning for warning in history.warnings if warning.kind == "other-origin"]
    return {
        "iteration_id": row.id,
        "dir": str(row.folder.resolve()),
        "target_chip": row.target_chip,
        "primary_value": row.value,
        "reason": next((warning.text for warning in told if warning.iteration_id == row.id), ""),
    }


def _best(history: History, best: Iteration) -> Json:
    return {
        "iteration_id": best.id,
        "dir": str(best.folder.resolve()),
        "primary_metric": history.metric,
        "primary_value": best.value,
        **certainty_of(history, best),
        "cannot_be_told_from": [row.id for row in history.near_top if row.id != best.id],
        "highest_score": None if history.top is None else history.top.id,
        "setting": None if best.setting is None else ready_to_save(best.setting),
    }


def _hint(history: History, decision: Decision, plan: FinalizePlan) -> Json:
    failed = [
        {
            "iteration_id": row.id,
            "error": str(row.failure),
            "failed_pass": failed_pass_of(row.failure) if row.failure else None,
            "attempts": len(row.attempts) + 1,
            "retry_command": retry_command(row),
        }
        for row in history.failed
    ]
    hint: Json = {
        "phase": decision.phase,
        "lever": decision.lever if isinstance(decision, Proposal) else None,
        "advice": _with_failures(decision.advice, failed),
        "auto_finalized": plan.auto,
        "skipped_levers": [
            {"lever": skip.lever, "reason": skip.reason} for skip in decision.skipped
        ],
        "failed_iterations": failed,
        "crashed_passes": [
            {
                "pass": crashed.what,
                "iterations": list(dict.fromkeys(crash.iteration.id for crash in crashed.crashes)),
                "is_retired": crashed.is_retired,
                "reason": crashed.reason,
            }
            for crashed in Crashes(history).passes
        ],
        "notes": list(decision.notes),
    }
    if isinstance(decision, Proposal) and decision.phase is not Phase.BASELINE:
        hint["setting"] = ready_to_save(decision.setting)
    if isinstance(decision, Open):
        hint["phase5_signals"] = decision.signals.to_json()
        hint["coverage_exhausted"] = decision.is_exhausted
    if plan.reason is not None:
        hint["finalize_reason"] = plan.reason.to_json()
    if plan.refusal:
        hint["refusal"] = plan.refusal
    if plan.premature:
        hint["premature_finalize_rejected"] = True
    return hint


def _with_failures(advice: str, failed: list[Json]) -> str:
    told = [
        f"iter_{item['iteration_id']} failed ({item['error']}) and counts as tried; to retry it: "
        f"{item['retry_command']}"
        for item in failed
    ]
    return " ".join([advice, *told])
