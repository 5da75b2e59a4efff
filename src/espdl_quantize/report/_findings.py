"""The sections of the report that interpret: key findings and remaining gap."""

from __future__ import annotations

from espdl_quantize.record import NO_LOSS, History, Iteration
from espdl_quantize.report._comparison import attempts_of
from espdl_quantize.report._escape import md, number
from espdl_quantize.report._gap import gap_words
from espdl_quantize.report.figures import TRAINED_TOGETHER
from espdl_quantize.search import (
    Crashes,
    Decision,
    Open,
    Proposal,
    SearchState,
    lint_setting,
    relative_loss,
    runtime_cost,
)
from espdl_quantize.search.phase5 import lever_effects
from espdl_quantize.search.triggers import gap_points
from espdl_quantize.setting import enabled_passes

_CLOSE = 0.001
"""Relative loss below which a runner-up that costs the chip nothing is worth naming."""


def key_findings(situation: SearchState) -> list[str]:
    """Return the bullets that the data yields by itself, in Markdown."""
    history = situation.history
    best = history.best
    if best is None:
        return []
    bullets = _gains(history, best)
    worst = situation.best_evidence.worst(3)
    if worst:
        told = ", ".join(f"{md(op)} {snr:.4g}" for op, snr in worst)
        told = f"Worst layers of {best.name} (noise:signal, each quantized alone): {told}."
        setting = best.setting
        if setting and any(spec.trains for spec, _ in enabled_passes(setting)):
            told += f" {TRAINED_TOGETHER}"
        bullets.append(told)
    for finding in situation.findings:
        bullets.append(f"{finding.rule}: {md(finding.text)}; speaks for {md(finding.method)}.")
    for jump in situation.best_evidence.jumps[:3]:
        between = ", ".join(md(op) for op in jump.between[:5]) or "nothing"
        bullets.append(
            f"Between {md(jump.op_prev)} and {md(jump.op_next)} the error grows by "
            f"{jump.excess:.4g} more than the second explains; between them: {between}."
        )
    bullets += _cheaper(history, best)
    if history.failed:
        told = "; ".join(f"{row.name}: {md(row.failure or 'no score')}" for row in history.failed)
        bullets.append(f"Failed: {told}.")
    bullets += [
        f"{row.name}: {md(attempts_of(row), 600)}." for row in history.iterations if row.attempts
    ]
    bullets += [f"{md(crashed.reason, 600)}." for crashed in Crashes(history).passes]
    bullets += [f"{best.name} ran with: {md(warning)}." for warning in best.warnings]
    bullets += _allowed_violations(situation)
    return bullets


def remaining_gap(situation: SearchState, decision: Decision) -> list[str]:
    """Return what is missing to the target and what could close it; nothing once it is reached."""
    history, target = situation.history, situation.options.target
    best = history.best
    if best is None or best.value is None or target is None or history.meets(best, target):
        return []
    bullets = [
        f"{number(abs(target - best.value))} "
        f"({gap_points(best.value, target):.3g} points) to the target {number(target)}."
    ]
    reference = float_value(history, best)
    if reference is not None:
        above = target > reference if history.direction == "max" else target < reference
        if above:
            bullets.append(
                f"The float model itself scores {number(reference)}: the target is out of its "
                "reach, so no quantization setting can meet it but by chance."
            )
    if isinstance(decision, Open):
        signals = decision.signals
        for name, items in (
            ("Untried levers", signals.untried_phase3_levers),
            ("Untried patterns", signals.untried_phase5_patterns),
            ("Calibrations to try again on the deeper stack", signals.untried_5beta_reapply),
            ("Calibrations not yet on best's stack", signals.untried_calib_swaps),
        ):
            if items:
                bullets.append(f"{name}: {', '.join(items)}.")
    elif isinstance(decision, Proposal):
        bullets.append(f"The search would go on: {md(decision.advice, 600)}")
    return bullets


def float_value(history: History, row: Iteration) -> float | None:
    """Return the float model's score by the function that scored ``row``."""
    return history.float_value(row)


def _gains(history: History, best: Iteration) -> list[str]:
    first = history.scored[0]
    bullets = []
    if first.id != best.id and first.value is not None and best.value is not None:
        told = f"{first.name} {number(first.value)} -> {best.name} {number(best.value)}"
        reference = float_value(history, best)
        # Of a loss that is chance, or none, there is no share.
        lost = reference is not None and history.gap_to(first, reference) > 0
        if reference is not None and lost and history.no_gap is None:
            share = (best.value - first.value) / (reference - first.value)
            told += f", {gap_words(share)} of the way to the float model's {number(reference)}"
        bullets.append(f"{told}.")
    if history.no_gap == NO_LOSS:
        bullets.append(f"{NO_LOSS.capitalize()}.")
    effects = lever_effects(history)
    for verb, chosen in (
        ("Gained", [row for row in effects if row.delta_vs_prior_best > 0]),
        ("Lost", [row for row in effects if row.delta_vs_prior_best < 0]),
    ):
        if chosen:
            told = "; ".join(
                f"iter_{row.iter} {number(row.delta_vs_prior_best, sign=True)} "
                f"({md(row.added_pass)})"
                for row in chosen
            )
            bullets.append(f"{verb} against the best before: {told}.")
    return bullets


def _cheaper(history: History, best: Iteration) -> list[str]:
    if best.setting is None or not runtime_cost(best.setting).affects_inference_speed:
        return []
    free = [
        row
        for row in history.scored
        if row.setting is not None and not runtime_cost(row.setting).affects_inference_speed
    ]
    runner_up = max(free, key=lambda row: (history.height(row), -row.id), default=None)
    if runner_up is None:
        return []
    loss = relative_loss(history, runner_up, best)
    told = (
        f"{runner_up.name} ({number(runner_up.value)}, rank {history.ranks[runner_up.id]}) costs "
        f"the chip nothing and is {loss:.3%} behind"
    )
    advice = "; it may be the better one to deploy" if loss < _CLOSE else ""
    return [f"{best.name} runs slower on the chip. {told}{advice}."]


def _allowed_violations(situation: SearchState) -> list[str]:
    """Name the iterations that ran against the composition discipline."""
    history, bullets = situation.history, []
    for count, row in enumerate(history.iterations):
        if row.setting is None or count == 0:
            continue
        for violation in lint_setting(row.setting, situation.upto(count)):
            bullets.append(
                f"{row.name} ran against the rule {violation.rule}: {md(violation.found)}."
            )
    return bullets
