"""Builds the content of comparison.json."""

from __future__ import annotations

from dataclasses import asdict

from espdl_quantize.core import Phase
from espdl_quantize.record import GENERATOR, Attempt, Failure, FolderComparison, History, Iteration
from espdl_quantize.record import comparison as parts
from espdl_quantize.record.failure import NO_EFFECT
from espdl_quantize.report._certainty import certainty_of, final_of, score_source
from espdl_quantize.report._commands import early_finalize_command, retry_command
from espdl_quantize.report._finalize import FinalizePlan
from espdl_quantize.report.costs import cost_lines
from espdl_quantize.search import (
    Crashes,
    Decision,
    Open,
    Proposal,
    SearchState,
    describe_changes,
)


def build_comparison(
    situation: SearchState, decision: Decision, plan: FinalizePlan, warnings: list[str]
) -> FolderComparison:
    """Say of a history and a decision what comparison.json says.

    Args:
        situation: the history with resolved options.
        decision: the next step.
        plan: what this call writes.
        warnings: what the reader of the ranking should know.
    """
    history = situation.history
    best = history.best
    return FolderComparison(
        generated_by=GENERATOR,
        primary_metric=history.metric,
        metric_direction=history.direction,
        target_metric=situation.options.target,
        deploy_runtime_priority=situation.options.priority,
        budgets=dict(history.budgets.bounds),
        front=tuple(record.id for record in history.front),
        cost_lines=tuple(cost_lines(history)),
        float_reference=dict(history.float_scores),
        iterations=tuple(_iteration(history, record) for record in history.iterations),
        excluded_iterations=tuple(_excluded(history, record) for record in history.excluded),
        best_iteration=None if best is None else _best(history, best),
        final=final_of(history),
        score_source=score_source(history),
        iteration_ranks={str(record.id): rank_of(history, record) for record in history.iterations},
        runtime_cost_classification={
            str(record.id): cost_of(history, record) for record in history.iterations
        },
        ranking_warnings=tuple(warnings),
        early_finalize_command=early_finalize_command(
            history.folder, is_open=isinstance(decision, Open)
        ),
        next_step_hint=_hint(history, decision, plan),
    )


OVER_BUDGET = "over budget"
"""Of an iteration that scores higher and is not best, since it costs the chip too much."""


def rank_of(history: History, record: Iteration) -> int | str:
    """Return the dense rank, "-" for a failed iteration."""
    rank = history.ranks[record.id]
    return "-" if rank is None else rank


def cost_of(history: History, record: Iteration) -> str:
    """Say whether an iteration's model runs slower on the chip than the plain quantized one."""
    price = history.prices.of(record)
    return "unknown" if price is None else str(price)


def delta_of(history: History, record: Iteration) -> float | None:
    """Return the difference to the best before, as the metric counts it."""
    prior = history.prior_best[record.id]
    if record.value is None or prior is None or prior.value is None:
        return None
    return record.value - prior.value


def outcome_of(history: History, record: Iteration) -> str:
    """Name what an iteration came to."""
    if record.is_without_effect:
        return NO_EFFECT
    if record.value is None:
        return "failed"
    gain = history.gain(record)
    if gain is None:
        return "first score"
    prior = history.prior_best[record.id]
    if prior is not None and history.excess(prior) and history.took_over(record):
        # Whatever its score: it keeps the budgets, or comes nearer.
        return "new best"
    if prior is not None and record.value != prior.value and history.is_chance(record, prior):
        return "within noise"
    if gain > 0 and not history.took_over(record) and history.excess(record) != 0:
        return OVER_BUDGET
    return "new best" if gain > 0 else "worse" if gain < 0 else "no change"


def changes_of(history: History, record: Iteration) -> str:
    """Say what an iteration changed against the best before it."""
    prior = history.prior_best[record.id]
    changes = describe_changes(prior.setting if prior else None, record.setting)
    return changes + (
        f" (the same quantized graph as iter_{record.same_as})" if record.is_without_effect else ""
    )


def attempts_of(record: Iteration) -> str:
    """Say how often an iteration failed before in its folder, and why last; empty where never."""
    if not record.attempts:
        return ""
    count, last = len(record.attempts), record.attempts[-1]
    text = f"{count} failed attempt{'s' if count > 1 else ''} before in this folder"
    when = f", the last on {last.ended_at}" if last.ended_at else ""
    return f"{text}{when}: {last.failure.stage}: {last.failure.cause}"


def _failed_pass(failure: Failure | None) -> parts.PassOfFailure | None:
    where = None if failure is None else failure.failed_pass
    if where is None:
        return None
    return parts.PassOfFailure(
        name=where.name, field=where.field or None, layer=where.layer or None
    )


def _attempt(attempt: Attempt) -> parts.FailedAttempt:
    failure, where = attempt.failure, attempt.failure.failed_pass
    return parts.FailedAttempt(
        ended_at=attempt.ended_at,
        elapsed_seconds=attempt.seconds,
        stage=failure.stage,
        failed_pass=None if where is None else where.name,
        layer=None if where is None else where.layer or None,
        cause=failure.cause,
    )


def _iteration(history: History, record: Iteration) -> parts.ComparedIteration:
    device = record.device
    return parts.ComparedIteration(
        iteration_id=record.id,
        dir=str(record.folder.resolve()),
        status=record.status,
        error=None if record.failure is None else str(record.failure),
        same_as=record.same_as,
        failed_pass=_failed_pass(record.failure),
        attempts=tuple(_attempt(attempt) for attempt in record.attempts),
        primary_metric=record.metric,
        primary_value=record.value,
        rank=rank_of(history, record),
        delta_vs_prior_best=delta_of(history, record),
        outcome=outcome_of(history, record),
        changed=changes_of(history, record),
        affects_inference_speed=cost_of(history, record),
        cost=_cost(history, record),
        evaluated_by=record.evaluated_by,
        float_value=record.float_value,
        **certainty_of(history, record),
        elapsed_seconds=record.elapsed_seconds,
        device=None if device is None else parts.OnBoard(**device.summary()),
        top_5_error_layers=tuple(
            parts.ErrorLayer(op=layer.op, snr=layer.snr) for layer in record.top_5_error_layers
        ),
        rationale=record.rationale,
        engine=record.engine,
        engine_fallbacks=tuple(
            parts.FallbackPart(**asdict(fallback)) for fallback in record.engine_fallbacks
        ),
        applied_setting_warnings=record.warnings,
    )


def _cost(history: History, record: Iteration) -> parts.CostOnChip | None:
    cost = record.cost
    if cost is None:
        return None
    first = history.baseline
    time = history.prices.time(record)
    before = None if first is None else history.prices.time(first)
    return parts.CostOnChip(
        chip=cost.chip,
        milliseconds=cost.ms,
        low=cost.latency.low,
        high=cost.latency.high,
        source=cost.latency.source,
        residual=cost.latency.residual,
        relative_time=None if time is None or before is None else time / before,
        ram_bytes=cost.ram_bytes,
        flash_bytes=cost.flash_bytes,
        keeps_budgets=history.keeps_budgets(record) if history.budgets.bounds else None,
    )


def _excluded(history: History, record: Iteration) -> parts.ExcludedIteration:
    reasons = (
        warning.text
        for warning in history.warnings
        if warning.kind == "other-origin" and warning.iteration_id == record.id
    )
    return parts.ExcludedIteration(
        iteration_id=record.id,
        dir=str(record.folder.resolve()),
        target_chip=record.target_chip,
        primary_value=record.value,
        reason=next(reasons, ""),
    )


def _best(history: History, best: Iteration) -> parts.BestIteration:
    return parts.BestIteration(
        iteration_id=best.id,
        dir=str(best.folder.resolve()),
        primary_metric=history.metric,
        primary_value=best.value,
        **certainty_of(history, best),
        cannot_be_told_from=tuple(record.id for record in history.near_top if record.id != best.id),
        highest_score=None if history.top is None else history.top.id,
        keeps_budgets=history.keeps_budgets(best) if history.budgets.bounds else None,
        cheapest_near_best=(
            None if history.cheapest_near_best is None else history.cheapest_near_best.id
        ),
        selection_bias=history.selection_bias,
        setting=best.setting,
    )


def _hint(history: History, decision: Decision, plan: FinalizePlan) -> parts.NextStepHint:
    failed = tuple(_failed(record) for record in history.failed)
    proposal = decision if isinstance(decision, Proposal) else None
    opened = decision if isinstance(decision, Open) else None
    return parts.NextStepHint(
        phase=decision.phase,
        lever=None if proposal is None else proposal.lever,
        advice=_with_failures(decision.advice, failed),
        auto_finalized=plan.auto,
        skipped_levers=tuple(
            parts.SkippedLeverEntry(lever=skip.lever, reason=skip.reason)
            for skip in decision.skipped
        ),
        failed_iterations=failed,
        crashed_passes=tuple(
            parts.CrashedPassEntry(
                name=crashed.what,
                iterations=tuple(dict.fromkeys(crash.iteration.id for crash in crashed.crashes)),
                is_retired=crashed.is_retired,
                reason=crashed.reason,
            )
            for crashed in Crashes(history).passes
        ),
        notes=decision.notes,
        setting=(
            None if proposal is None or proposal.phase is Phase.BASELINE else proposal.setting
        ),
        phase5_signals=(
            None if opened is None else parts.OpenSearchSignals(**opened.signals.to_json())
        ),
        coverage_exhausted=None if opened is None else opened.is_exhausted,
        finalize_reason=(
            None if plan.reason is None else parts.FinalizeEntry(**asdict(plan.reason))
        ),
        refusal=plan.refusal or None,
        premature_finalize_rejected=plan.premature or None,
    )


def _failed(record: Iteration) -> parts.FailedIteration:
    return parts.FailedIteration(
        iteration_id=record.id,
        error=str(record.failure),
        failed_pass=_failed_pass(record.failure),
        attempts=len(record.attempts) + 1,
        retry_command=retry_command(record),
    )


def _with_failures(advice: str, failed: tuple[parts.FailedIteration, ...]) -> str:
    retries = [
        f"iter_{failure.iteration_id} failed ({failure.error}) and counts as tried; to retry it: "
        f"{failure.retry_command}"
        for failure in failed
    ]
    return " ".join([advice, *retries])
