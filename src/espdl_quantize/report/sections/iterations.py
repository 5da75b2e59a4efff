"""What every iteration did: charts, the table, and where the error lies."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.core import Engine, Strategy
from espdl_quantize.record import Evidence, Iteration, block_losses, read_log
from espdl_quantize.record.files import LOG
from espdl_quantize.report._blocks import (
    Block,
    Cell,
    Column,
    Paragraph,
    Step,
    Table,
    TableRow,
    section,
)
from espdl_quantize.report._certainty import show_interval, show_signals, verdict_of
from espdl_quantize.report._comparison import (
    attempts_of,
    changes_of,
    cost_of,
    delta_of,
    outcome_of,
    rank_of,
)
from espdl_quantize.report._escape import duration, plain
from espdl_quantize.report.costs import show_flash, show_ms_interval, show_ram
from espdl_quantize.report.figures import (
    LayerRow,
    cost_figure,
    graph_map,
    histogram_figures,
    last_training,
    layer_figure,
    layer_rows,
    lever_figure,
    metric_figure,
    spark,
    training_figure,
)
from espdl_quantize.report.scores import decides_classes, show_score
from espdl_quantize.search import DEFAULT_STRATEGY, int16_ops, relaxed_rule

_RATIONALE = 1500
_TRAINED = 12
"""Blocks whose loss is drawn over the steps."""
_STRATEGIES = {
    Strategy.SEED: "Strategy: seed. Each calibration is paired with training, then one lever "
    "follows another.",
    Strategy.SWIFT: "Strategy: swift. Calibrations and levers are tried without training first; "
    "what came out best is trained.",
}
_AGREES = Column("agrees with float", is_number=True, text_only=True)
_COSTS = (
    Column("predicted ms", is_number=True, is_name=True),
    Column("RAM, KiB", is_number=True, is_name=True, text_only=True),
    Column("flash, KiB", is_number=True, is_name=True, text_only=True),
)


@section("How the search went", html=20, markdown=None, terminal=None)
def search(step: Step) -> Iterator[Block]:
    """Draw the metric, the gain of every change, and what accuracy costs."""
    yield Paragraph(_STRATEGIES[step.situation.options.strategy or DEFAULT_STRATEGY], "source")
    relaxed = relaxed_rule(step.situation)
    if relaxed is not None:
        yield Paragraph(f"{relaxed}.", "source")
    yield metric_figure(step.situation)
    yield lever_figure(step.history)
    yield cost_figure(step.situation)


@section("Iteration history", html=40, markdown=30, terminal=None)
def iteration_history(step: Step) -> Iterator[Block]:
    """List every iteration, what it changed, and what came of it."""
    yield Table(
        "rows",
        "What each iteration changed against the best before it, and what came of it. The best is "
        "marked with a star.",
        (
            Column("iter", is_number=True),
            Column("method changed", "changed"),
            Column(plain(step.history.metric or "metric", 60), "any", is_number=True, is_name=True),
            Column("95 % interval", is_number=True, text_only=True),
            Column("delta", is_number=True),
            Column("outcome"),
            Column("against best", text_only=True),
            Column("output noise:signal", is_number=True),
            *((_AGREES,) if _agree(step) else ()),
            Column("rank", is_number=True),
            Column("affects inference speed", "price"),
            *(_COSTS if _has_costs(step) else ()),
            Column("elapsed", is_number=True, page_only=True),
        ),
        tuple(_record(step, record) for record in step.history.iterations),
        "No iteration has been run.",
    )


def _record(step: Step, record: Iteration) -> TableRow:
    history, best = step.history, step.best
    outcome = outcome_of(history, record)
    problems = (plain(record.failure or "", 600), plain(attempts_of(record), 600))
    noise, agreement = show_signals(record)
    return TableRow(
        (
            Cell(str(record.id)),
            Cell(
                plain(changes_of(history, record), 600),
                problems=tuple(problem for problem in problems if problem),
                details=plain(record.rationale, _RATIONALE),
            ),
            Cell(
                show_score(history, record.value),
                notes=_only(show_interval(history.noise.interval(record)), ""),
            ),
            Cell(show_interval(history.noise.interval(record))),
            Cell(show_score(history, delta_of(history, record), sign=True)),
            Cell(
                outcome,
                badge=outcome.replace(" ", "-"),
                notes=_only(verdict_of(history, record), "against best: "),
            ),
            Cell(verdict_of(history, record)),
            Cell(noise, notes=_only(agreement if _agree(step) else "-", "", " alike")),
            *((Cell(agreement),) if _agree(step) else ()),
            Cell(str(rank_of(history, record))),
            Cell(plain(cost_of(history, record))),
            *(_costs(record) if _has_costs(step) else ()),
            Cell(duration(record.elapsed_seconds)),
        ),
        is_best=best is not None and record.id == best.id,
    )


def _agree(step: Step) -> bool:
    return decides_classes(step.history)


def _has_costs(step: Step) -> bool:
    return any(record.cost is not None for record in step.history.iterations)


def _costs(record: Iteration) -> tuple[Cell, Cell, Cell]:
    cost = record.cost
    ram, flash = show_ram(cost), show_flash(cost)
    notes = (*_only(ram, "RAM ", " KiB"), *_only(flash, "flash ", " KiB"))
    return Cell(show_ms_interval(cost), notes=notes), Cell(ram), Cell(flash)


def _only(text: str, before: str, behind: str = "") -> tuple[str, ...]:
    return () if text == "-" else (f"{before}{text}{behind}",)


@section("Where the error is", html=50, markdown=None, terminal=None)
def layers(step: Step) -> Iterator[Block]:
    """Show the worst layers of the baseline and of the best."""
    first, best = step.history.baseline, step.best
    worst = _worst_layers(step, first)
    first_name, best_name = (record.name if record else "" for record in (first, best))
    needs_work = step.situation.options.thresholds.layer_snr
    yield layer_figure(worst, first_name, best_name, needs_work)
    before = None
    if first is not None and first is not best:
        before = step.situation.evidence.get(first.id)
    drawn = graph_map(step.situation.best_evidence, before, needs_work)
    if drawn is not None:
        yield drawn
    yield from histogram_figures(step.situation.best_evidence, best_name)
    if best is not None:
        yield from _training(best)
    if not worst:
        return
    yield Table(
        "layers",
        "The worst layers: noise:signal power ratio with only this layer quantized.",
        (
            Column("Layer", "op"),
            Column("Type"),
            Column(f"Baseline ({first_name})", is_number=True),
            Column(f"Best ({best_name})", is_number=True),
            Column("Width in best"),
        ),
        tuple(
            TableRow(
                (
                    Cell(plain(layer.op, 200)),
                    Cell(plain(layer.op_type, 60) or "-"),
                    Cell(_ratio(layer.baseline)),
                    Cell(_ratio(layer.best)),
                    Cell("int16" if layer.is_int16 else "default"),
                )
            )
            for layer in worst
        ),
    )


def _training(best: Iteration) -> Iterator[Block]:
    """Show what training did to the loss of each block, and how, of the worst ones."""
    blocks = last_training(block_losses(read_log(best.folder / LOG)))
    drawn = training_figure(blocks, best.name)
    if drawn is None:
        return
    yield drawn
    if not any(block.losses for block in blocks):
        why = "plain esp-ppq does not print it"
        if best.engine is not Engine.REFERENCE:
            why = "an earlier version did not print it, or plain esp-ppq did the training"
        yield Paragraph(f"The loss over the steps is not recorded: {why}.", "source")
        return
    worst = sorted(blocks, key=lambda block: block.after or 0.0, reverse=True)[:_TRAINED]
    of = f"the {len(worst)} blocks of {len(blocks)} with the largest loss"
    yield Table(
        "training",
        "Loss over the steps of the training, "
        f"{'block by block' if len(worst) == len(blocks) else of}: the mean squared difference "
        "to the float block, from zero up.",
        (
            Column("Block", is_number=True),
            Column("Last op", "op"),
            Column("Before", is_number=True),
            Column("After", is_number=True),
            Column("Over the steps"),
        ),
        tuple(
            TableRow(
                (
                    Cell(str(block.number)),
                    Cell(plain(block.last, 200)),
                    Cell(_ratio(block.before)),
                    Cell(
                        _ratio(block.after),
                        notes=("would have grown: kept as it was",) if block.is_taken_back else (),
                    ),
                    Cell("", spark=spark(block.losses)),
                )
            )
            for block in worst
        ),
    )


def _worst_layers(step: Step, first: Iteration | None) -> list[LayerRow]:
    best = step.best
    if first is None or best is None:
        return []
    before = step.situation.evidence.get(first.id, Evidence())
    wide = int16_ops(best.setting) if best.setting else ()
    return layer_rows(before, step.situation.best_evidence, wide)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
