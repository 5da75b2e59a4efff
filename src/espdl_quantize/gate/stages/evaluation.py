"""The contract's own evaluation, of the float model."""

from __future__ import annotations

import time
from collections.abc import Iterator

from espdl_quantize.core import Finding, FindingKind
from espdl_quantize.gate._context import GateContext
from espdl_quantize.gate.statistics import ScoredInputs
from espdl_quantize.iteration import facts_of, score_float
from espdl_quantize.ppq import batch_digests, seed_everything


def score(context: GateContext) -> Iterator[Finding]:
    """Score the float model as the search scores."""
    contract, config = context.contract, context.contract.config
    context.facts["metric"] = f"{config.primary_metric} ({config.metric_direction})"
    if not context.options.score:
        return
    seed_everything(context.options.seed)
    weights = _totals(context)
    started = time.perf_counter()
    context.scored = score_float(
        contract,
        context.graph,
        full=context.options.full_eval,
        make_watcher=lambda _: ScoredInputs(context.model.batch_axes),
        unlabelled=context.prepared.agreement(context.options.seed),
    )
    context.score_seconds = time.perf_counter() - started
    changed = [name for name, total in _totals(context).items() if total != weights[name]]
    if changed:
        yield Finding(
            FindingKind.FAULT,
            "changes_the_graph",
            f"{context.scored.used}()",
            f"{context.scored.used}() changes the graph that it is given: {changed[0]!r} and "
            f"{len(changed) - 1} more of its {len(weights)} weights are others afterwards",
            "read the graph and leave it as it is: what is scored next is the same one",
            figures={"weights": changed},
        )
    context.facts["float_value"] = context.scored.value
    context.facts["evaluated_by"] = (
        f"{context.scored.used}()"
        if contract.has_evaluate
        else "agreement with the float model on held-out samples; no label is used"
    )
    for message in context.scored.warnings:
        yield _doubt(context, "evaluation_replaced", message)
    # Of the first batches alone: a run looks at all of them.
    names = list(context.graph.inputs)
    batches = context.batches if context.has("batches") else []
    calibration = {digest for batch in batches for digest in batch_digests(batch, names)}
    context.score_facts, doubts = facts_of(
        context.scored, calibration, config, is_resampled=bool(context.scored.records)
    )
    for message in doubts:
        yield _doubt(context, "score_facts", message)


def _totals(context: GateContext) -> dict[str, str]:
    """Return the sum of each constant of the graph, as text: NaN is equal to NaN there."""
    return {
        name: str(variable.value.double().sum().item())
        for name, variable in context.graph.variables.items()
        if variable.is_parameter and getattr(variable.value, "is_floating_point", bool)()
    }


def score_final(context: GateContext) -> Iterator[Finding]:
    """Score the float model by evaluate_final, where there is one."""
    options = context.options
    if not (options.score and options.final and context.contract.has_evaluate_final):
        return
    seed_everything(context.options.seed)
    context.final = score_float(context.contract, context.graph, full=False, final=True)
    context.facts["float_value_of_evaluate_final"] = context.final.value
    yield from ()


def _doubt(context: GateContext, code: str, message: str) -> Finding:
    return Finding(FindingKind.WARNING, code, f"{context.scored.used}()", message)
