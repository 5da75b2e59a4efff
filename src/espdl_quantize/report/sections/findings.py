"""The sections that interpret: key findings, what is known of the chip, and the remaining gap."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.core import Direction
from espdl_quantize.deploy import CardFacts, card_facts
from espdl_quantize.record import NO_LOSS, History, Iteration
from espdl_quantize.report._blocks import (
    Block,
    Bullets,
    Cell,
    Column,
    Step,
    Table,
    TableRow,
    section,
)
from espdl_quantize.report._comparison import attempts_of, changes_of
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report._gap import gap_words
from espdl_quantize.report.costs import cost_lines
from espdl_quantize.report.figures import TRAINED_TOGETHER
from espdl_quantize.report.scores import show_score
from espdl_quantize.search import (
    Crashes,
    Open,
    Proposal,
    lint_setting,
    relative_loss,
)
from espdl_quantize.search.phase5 import lever_effects
from espdl_quantize.search.plain_names import TRIGGERS, explain_triggers, move_name
from espdl_quantize.search.triggers import gap_points
from espdl_quantize.setting import enabled_passes

_CLOSE = 0.001
"""Relative loss below which a runner-up that costs the chip nothing is worth naming."""


@section("Key findings", html=30, markdown=60, terminal=None)
def key_findings(step: Step) -> Iterator[Block]:
    """Name what the data yields by itself."""
    items = [] if step.best is None else [*_findings(step, step.best)]
    yield Bullets(tuple(items), empty="Nothing stands out.")


@section("On the chip", html=32, markdown=70, terminal=None)
def on_the_chip(step: Step) -> Iterator[Block]:
    """Say what best costs, whether its file is legal, and what a board measured."""
    if step.best is not None:
        lines = [plain(line, 600) for line in cost_lines(step.history)]
        lines += [plain(line, 400) for line in chip_lines(step.best)]
        facts = card_facts(step.best.folder)
        if facts.widths:
            widths = ", ".join(f"{count} ops in {plain(width)}" for width, count in facts.widths)
            tested = " A copy of it tests itself on a board." if facts.has_test_values else ""
            lines.append(f"Widths in the file: {widths}.{tested}")
        if lines:
            yield Bullets(tuple(lines))
        if facts.tensors:
            yield _tensors(facts)


def _tensors(facts: CardFacts) -> Table:
    return Table(
        "tensors",
        "What goes in and comes out of best/model.espdl: a real value is its integer times 2 to "
        "the power of the exponent.",
        (
            Column(""),
            Column("Name", "op"),
            Column("Type"),
            Column("Shape"),
            Column("Layout"),
            Column("Exponent", is_number=True),
        ),
        tuple(
            TableRow(
                (
                    Cell(each.kind),
                    Cell(plain(each.name, 120)),
                    Cell(plain(each.dtype, 20)),
                    Cell(" x ".join(map(str, each.shape)) or "-"),
                    Cell(plain(each.layout, 40) or "-"),
                    Cell("-" if each.exponent is None else str(each.exponent)),
                )
            )
            for each in facts.tensors
        ),
    )


@section("Remaining gap", html=34, markdown=80, terminal=None)
def remaining_gap(step: Step) -> Iterator[Block]:
    """Say what is missing to the target and what could close it; nothing once it is reached."""
    history, target, best = step.history, step.situation.options.target, step.best
    if best is None or best.value is None or target is None or history.meets(best, target):
        return
    items = [
        f"{number(abs(target - best.value))} "
        f"({gap_points(best.value, target):.3g} points) to the target {number(target)}."
    ]
    reference = history.float_value(best)
    if reference is not None:
        above = (
            target > reference
            if Direction(history.direction) is Direction.MAX
            else target < reference
        )
        if above:
            items.append(
                f"The float model itself scores {number(reference)}: the target is out of its "
                "reach, so no quantization setting can meet it but by chance."
            )
    yield Bullets((*items, *_ways_on(step)))


def _ways_on(step: Step) -> Iterator[str]:
    decision = step.decision
    if isinstance(decision, Open):
        signals = decision.signals
        for name, untried in (
            ("Untried levers", signals.untried_phase3_levers),
            ("Untried patterns", signals.untried_phase5_patterns),
            ("Calibrations to try again on the deeper stack", signals.untried_5beta_reapply),
            ("Calibrations not yet on best's stack", signals.untried_calib_swaps),
        ):
            if untried:
                yield f"{name}: {', '.join(map(move_name, untried))}."
    elif isinstance(decision, Proposal):
        yield f"The search would go on: {explain_triggers(plain(decision.advice, 600))}"


def _findings(step: Step, best: Iteration) -> Iterator[str]:
    history, evidence = step.history, step.situation.best_evidence
    yield from _gains(history, best)
    worst = evidence.worst(3)
    if worst:
        ratios = ", ".join(f"{plain(op)} {snr:.4g}" for op, snr in worst)
        setting = best.setting
        is_trained = setting and any(spec.trains for spec, _ in enabled_passes(setting))
        yield (
            f"Worst layers of {best.name} (noise:signal, each quantized alone): {ratios}."
            + (f" {TRAINED_TOGETHER}" if is_trained else "")
        )
    for finding in step.situation.findings:
        sign = TRIGGERS.get(finding.rule, "")
        named = f"{finding.rule} ({sign})" if sign else finding.rule
        yield f"{named}: {plain(finding.text)}; speaks for {plain(finding.method)}."
    for jump in evidence.jumps[:3]:
        between = ", ".join(plain(op) for op in jump.between[:5]) or "nothing"
        yield (
            f"Between {plain(jump.op_prev)} and {plain(jump.op_next)} the error grows by "
            f"{jump.excess:.4g} more than the second explains; between them: {between}."
        )
    yield from _cheaper(history, best)
    if history.failed:
        causes = "; ".join(
            f"{record.name}: {plain(record.failure or 'no score')}" for record in history.failed
        )
        yield f"Failed: {causes}."
    idle = [record for record in history.iterations if record.is_without_effect]
    if idle:
        same = "; ".join(
            f"{record.name} ({plain(changes_of(history, record), 300)})" for record in idle
        )
        yield f"Without effect: {same}."
    for record in history.iterations:
        if record.attempts:
            yield f"{record.name}: {plain(attempts_of(record), 600)}."
    for crashed in Crashes(history).passes:
        yield f"{plain(crashed.reason, 600)}."
    for warning in best.warnings:
        yield f"{best.name} ran with: {plain(warning)}."
    yield from _allowed_violations(step)


def _gains(history: History, best: Iteration) -> Iterator[str]:
    first = history.scored[0]
    if first.id != best.id and first.value is not None and best.value is not None:
        scores = [show_score(history, record.value) for record in (first, best)]
        gain = f"{first.name} {scores[0]} -> {best.name} {scores[1]}"
        reference = history.float_value(best)
        # Of a loss that is chance, or none, there is no share.
        lost = reference is not None and history.gap_to(first, reference) > 0
        if reference is not None and lost and history.no_gap is None:
            share = (best.value - first.value) / (reference - first.value)
            goal = show_score(history, reference)
            gain += f", {gap_words(share)} of the way to the float model's {goal}"
        yield f"{gain}."
    if history.no_gap == NO_LOSS:
        yield f"{NO_LOSS.capitalize()}."
    effects = lever_effects(history)
    for verb, chosen in (
        ("Gained", [effect for effect in effects if effect.delta_vs_prior_best > 0]),
        ("Lost", [effect for effect in effects if effect.delta_vs_prior_best < 0]),
    ):
        if chosen:
            changes = "; ".join(
                f"iter_{effect.iter} {show_score(history, effect.delta_vs_prior_best, sign=True)} "
                f"({plain(effect.added_pass)})"
                for effect in chosen
            )
            yield f"{verb} against the best before: {changes}."


def _cheaper(history: History, best: Iteration) -> Iterator[str]:
    if not _is_slower(history, best):
        return
    free = [record for record in history.scored if _is_slower(history, record) is False]
    runner_up = max(free, key=lambda record: (history.height(record), -record.id), default=None)
    if runner_up is None:
        return
    loss = relative_loss(history, runner_up, best)
    advice = "; it may be the better one to deploy" if loss < _CLOSE else ""
    yield (
        f"{best.name} runs slower on the chip. {runner_up.name} ({number(runner_up.value)}, rank "
        f"{history.ranks[runner_up.id]}) costs the chip nothing and is {loss:.3%} behind{advice}."
    )


def _is_slower(history: History, record: Iteration) -> bool | None:
    price = history.prices.of(record)
    return None if price is None else price.affects_inference_speed


def _allowed_violations(step: Step) -> Iterator[str]:
    """Name the iterations that ran against the composition discipline."""
    history, situation = step.history, step.situation
    for count, record in enumerate(history.iterations):
        if record.setting is None or count == 0:
            continue
        for violation in lint_setting(record.setting, situation.upto(count)):
            yield f"{record.name} ran against the rule {violation.rule}: {plain(violation.found)}."


def chip_lines(best: Iteration) -> list[str]:
    """Say whether a file is legal and how its integers agree; nothing where nobody looked."""
    check = best.on_chip
    measured = [] if best.device is None else [best.device.sentence()]
    if check is None or check.legal is None:
        return measured
    chip = best.target_chip or "the chip"
    lines = [
        f"The exported file was read back: it {'obeys' if check.legal else 'breaks'} the rules "
        f"known of {chip}." + ("" if measured else " That is no run on a chip.")
    ]
    if check.doubts:
        lines.append(
            f"Of {check.doubts} ops it is not known whether the chip can run them so: "
            f"{best.name}/chip_check.json says why. Try the model on the chip before you rely on "
            "it."
        )
    if check.exact_percent is not None:
        text = (
            f"Computed from the file in integers, {_percent(check.exact_percent)} of the outputs "
            f"of {check.ops_checked} ops are what the simulation says"
        )
        if check.largest_difference:
            steps = "step" if check.largest_difference == 1 else "steps"
            text += f"; the largest difference is {check.largest_difference} {steps} of a scale"
        lines.append(f"{text}.")
    if check.end_to_end_exact_percent is not None:
        lines.append(
            f"End to end, {_percent(check.end_to_end_exact_percent)} of the model's outputs are."
        )
    if check.ops_skipped:
        lines.append(
            f"{check.ops_skipped} ops have no integer form here and were taken from the "
            f"simulation; {best.name}/chip_check.json names them."
        )
    if check.overflows:
        lines.append(
            f"{check.overflows} sums do not fit into the chip's accumulator, which the simulation "
            f"does not know; {best.name}/chip_check.json names the ops."
        )
    return measured + lines


def _percent(value: float) -> str:
    # 99.9996 is not all.
    return "100 %" if value == 100 else f"{min(value, 99.99):.2f} %"
