"""What a comparison prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from espdl_quantize.report._escape import number, plain
from espdl_quantize.report._finalize import FinalizePlan
from espdl_quantize.search import Decision, Open, Proposal, Stop

_SHOWN = 12
_ADVICE = 4000


def summary_lines(
    comparison: dict[str, Any], decision: Decision, plan: FinalizePlan, done: list[str]
) -> Iterator[str]:
    """Yield the lines: ranking, next step, warnings, what was written, how to end.

    Where this call has ended the search, or it ended by itself, there is no next step to tell.
    """
    yield from _ranking(comparison)
    goes_on = plan.reason is None and not isinstance(decision, Stop)
    if goes_on:
        yield from _next_step(comparison["next_step_hint"], decision)
    elif plan.reason is None:
        yield plain(comparison["next_step_hint"]["advice"], _ADVICE)
    for warning in comparison["ranking_warnings"]:
        yield f"warning: {plain(warning)}"
    if plan.refusal:
        yield from _refusal(decision, plan)
    if plan.reason is not None:
        yield f"finalized ({plan.reason.category}): {plain(plan.reason.detail)}"
        for line in comparison["final"]["told"]:
            yield plain(line, 900)
        if not comparison["final"]["taken"]:
            yield plain(comparison["score_source"], 900)
    for line in done:
        yield plain(line)
    if goes_on:
        yield f"to end the search here: {comparison['early_finalize_command']}"


def _next_step(hint: dict[str, Any], decision: Decision) -> Iterator[str]:
    lever = f", lever {decision.lever}" if isinstance(decision, Proposal) and decision.lever else ""
    yield f"phase: {decision.phase}" + lever
    yield f"next: {plain(hint['advice'], _ADVICE)}"
    for skip in decision.skipped:
        yield f"skipped {skip.lever}: {plain(skip.reason)}"
    for note in decision.notes:
        yield f"note: {plain(note, 600)}"


def _ranking(comparison: dict[str, Any]) -> Iterator[str]:
    rows, best = comparison["iterations"], comparison["best_iteration"]
    if best is None:
        count = "1 iteration" if len(rows) == 1 else f"{len(rows)} iterations"
        yield f"{count}, none with a score" if rows else "no iterations yet"
        return
    metric = plain(comparison["primary_metric"] or "metric")
    told = f"best: iter_{best['iteration_id']}, {metric} {number(best['primary_value'])}"
    if comparison["target_metric"] is not None:
        told += f" (target {number(comparison['target_metric'])})"
    interval = best["interval"]
    if interval is not None:
        told += f", 95 % interval {interval['low']:.4g} to {interval['high']:.4g}"
    yield told
    if best["highest_score"] != best["iteration_id"]:
        yield (
            f"  iter_{best['highest_score']} scored higher, within noise; ties go to what costs "
            "the chip less, then to noise at the outputs that is less beyond chance"
        )
    if len(rows) > _SHOWN:
        yield f"  ... {len(rows) - _SHOWN} earlier iterations are in comparison.json"
    for row in rows[-_SHOWN:]:
        yield (
            f"  iter_{row['iteration_id']:<3} rank {row['rank']!s:<3} "
            f"{number(row['primary_value']):<10} {row['outcome']:<12}{_signal(row)} "
            f"{plain(row['changed'], 120)}"
        )
        if row["attempts"]:
            number_of = len(row["attempts"])
            attempts = f"{number_of} failed attempt{'s' if number_of > 1 else ''}"
            cause = plain(row["attempts"][-1]["cause"], 200)
            yield f"    iter_{row['iteration_id']}: {attempts} before: {cause}"
        if row["device"] is not None:
            yield f"           {_on_board(row['device'])}"
    for row in comparison["excluded_iterations"]:
        yield (
            f"  iter_{row['iteration_id']:<3} rank -   {number(row['primary_value']):<10} "
            f"{'excluded':<12} see the warning below"
        )


def _on_board(device: dict[str, Any]) -> str:
    """Write what a board measured of an iteration's model."""
    parts = []
    if device["loaded"] is False:
        parts.append("the model does not load")
    if device["ms"] is not None:
        parts.append(f"{device['ms']:.4g} ms per run")
    if device["test"] is not None:
        parts.append(f"test {device['test']}")
    chip = f" ({plain(device['chip'], 20)})" if device["chip"] else ""
    return f"measured on a board{chip}: {', '.join(parts) or plain(device['problem']) or 'nothing'}"


def _signal(row: dict[str, Any]) -> str:
    """Write the noise at the outputs."""
    noise = (row["signals"] or {}).get("noise_signal")
    return "" if noise is None else f" | noise {noise:<9.3g}|"


def _refusal(decision: Decision, plan: FinalizePlan) -> Iterator[str]:
    yield f"REFUSED: {plain(plan.refusal)}"
    if not plan.premature or not isinstance(decision, Open):
        return
    yield "best/ and final_report.md were not written; comparison.json was"
    for name in ("untried_phase5_patterns", "untried_phase3_levers", "untried_5beta_reapply"):
        yield f"  {name}: {', '.join(getattr(decision.signals, name)) or 'none'}"
    yield "either run further iterations, or add --force-finalize to end the search here"
