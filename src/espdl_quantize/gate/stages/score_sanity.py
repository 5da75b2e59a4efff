"""Whether a score means anything: it is the same twice, more than chance, and falls with noise."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from espdl_quantize.contract import Batch, first_samples
from espdl_quantize.core import Direction, Finding, FindingKind, MetricUnit
from espdl_quantize.gate._context import GateContext
from espdl_quantize.gate.repeats import Repeat, call_again
from espdl_quantize.gate.stages.trial import quantize_trial
from espdl_quantize.gate.statistics import ScoredInputs
from espdl_quantize.gate.thresholds import SANITY
from espdl_quantize.iteration import same_failure
from espdl_quantize.ppq import run_graph, scrambled, unquantized, with_noise

if TYPE_CHECKING:
    from torch import Tensor

_SCALE = {MetricUnit.PERCENT: 100.0, MetricUnit.FRACTION: 1.0}
_HITS = re.compile(r"top[-_ ]?1|acc(uracy)?|precision|recall|f1|auc|m?ap(\W?\d+)?|iou|miou", re.I)
"""Names of metrics of which more is better."""
_MISSES = re.compile(r"loss|err(or)?|wer|cer|mse|rmse|mae|rate of errors|perplexity", re.I)
"""Names of metrics of which less is better."""
_DECISIONS = re.compile(r"top[-_ ]?1|acc(uracy)?", re.I)
"""Names of metrics that are the share of right decisions, for a warning: no verdict rests on it."""


def repeat(context: GateContext) -> Iterator[Finding]:
    """Score the float model again: the same samples must come, and the same value."""
    if not context.contract.has_evaluate:
        # Agreement with the float model is no code of the contract's.
        return
    first, used = context.scored, context.scored.used
    seen = first.watcher.digests if first.watcher is not None else []
    whole = context.score_seconds <= SANITY.seconds_of_repeats
    if not whole and not seen:
        return
    options = context.options
    again = call_again(
        context.contract,
        used,
        context.graph,
        seed=options.seed,
        axes=context.model.batch_axes,
        whole=whole,
        on_samples=_show(context),
    )
    new = len(set(again.digests) - set(seen))
    other_value = again.value is not None and _differ(again.value, first.value)
    figures = {"first": first.value, "second": again.value, "new_samples": new}
    if again.failure:
        yield Finding(
            FindingKind.FAULT,
            "fails_when_called_again",
            f"{used}()",
            f"{used}() scored the float model once, and failed when it was called again: "
            f"{again.failure}",
            f"let {used}() leave nothing behind that its next call stumbles over: a search calls "
            "it once per iteration",
        )
    elif new and seen:
        scores = f": {first.value:.6g}, then {again.value:.6g}" if again.is_whole else ""
        yield Finding(
            FindingKind.FAULT if other_value else FindingKind.WARNING,
            "scores_other_samples",
            f"{used}()",
            f"{used}() scores other samples each time that it is called{scores} "
            f"({new} of {len(again.digests)} were new the second time)",
            "choose the samples once, by a fixed list or a generator that is seeded within "
            f"{used}(), and augment none: what is compared is scored on the same samples",
            figures=figures,
        )
    elif other_value:
        yield Finding(
            FindingKind.WARNING,
            "not_deterministic",
            f"{used}()",
            f"{used}() gave the float model {first.value:.6g}, and on the same samples "
            f"{again.value:.6g} when it was called again",
            f"seed what {used}() draws, and break ties in a fixed order",
            figures=figures,
        )


def score_trial(context: GateContext) -> Iterator[Finding]:
    """Score the trial: an evaluation that knows float graphs alone would fail in every iteration.

    The trial has seen a few samples, so that what its numbers alone break may be well in a whole
    calibration: that shows by letting the same graph compute in floats.
    """
    if not context.contract.has_evaluate:
        return
    used = context.scored.used
    failure = _failure_on_trial(context)
    if not failure:
        return
    with unquantized(context.trial.graph):
        is_structural = same_failure(_failure_on_trial(context), failure)
    if is_structural:
        message = (
            f"{used}() scores the float model and fails on a quantized graph, even while nothing "
            f"is quantized in it: {failure}"
        )
        remedy = (
            f"fix {used}() in {context.contract.path.name}: the quantized graph has the same "
            "inputs and outputs, and other ops: some are fused, and all have a config"
        )
    else:
        message = (
            f"{used}() scores the float model and fails on a trial that is quantized by a few "
            f"samples: {failure}"
        )
        remedy = (
            f"let {used}() return its worst value where there is nothing to score, such as no "
            "detection: an iteration in which it fails has no score"
        )
    yield Finding(
        # An evaluate_fast that fails is replaced by evaluate.
        FindingKind.FAULT if is_structural and used == "evaluate" else FindingKind.WARNING,
        "fails_on_quantized_graph",
        f"{used}()",
        message,
        remedy,
    )


def _failure_on_trial(context: GateContext) -> str:
    """Return why the evaluation fails on the trial's graph; empty where it does not."""
    again = call_again(
        context.contract,
        context.scored.used,
        context.trial.graph,
        seed=context.options.seed,
        axes=context.model.batch_axes,
        whole=context.score_seconds <= SANITY.seconds_of_trial,
        on_samples=_show(context),
    )
    if again.is_whole and again.value is not None and not math.isfinite(again.value):
        return f"it returned {context.contract.config.primary_metric} = {again.value}"
    return again.failure


def _show(context: GateContext) -> Callable[[int], None]:
    """Return what shows how far a repeated evaluation is: the first one has counted its samples."""
    watcher = context.scored.watcher
    total = len(watcher.digests) if watcher is not None else 0
    return lambda done: context.progress.update(done, total or None, f"sample {done}")


def examine_score(context: GateContext) -> Iterator[Finding]:
    """Hold the float model's score against chance, its samples and the target."""
    yield from _chance(context)
    yield from _count(context)
    yield from _target(context)


def compare_noisy(context: GateContext) -> Iterator[Finding]:
    """Score a copy of the float model with noise in its weights, which must be worse."""
    is_own = context.contract.has_evaluate
    if not is_own or context.score_seconds > SANITY.seconds_of_repeats:
        return
    config, used, value = context.contract.config, context.scored.used, context.scored.value
    noisy: Repeat = call_again(
        context.contract,
        used,
        with_noise(context.graph),
        seed=context.options.seed,
        on_samples=_show(context),
    )
    if noisy.value is None or not math.isfinite(noisy.value):
        return
    if noisy.value == value:
        yield from _ignores_outputs(context)
    is_max = config.metric_direction == Direction.MAX
    better = noisy.value - value if is_max else value - noisy.value
    if better <= SANITY.noisy_margin * max(abs(value), abs(noisy.value)):
        return
    name, other = config.primary_metric, "min" if is_max else "max"
    is_clear = bool((_MISSES if is_max else _HITS).search(name))
    yield Finding(
        FindingKind.FAULT if is_clear else FindingKind.WARNING,
        "metric_direction",
        'QUANT_CONFIG["metric_direction"]',
        f"metric_direction is {str(config.metric_direction)!r}, and by it a copy of the float "
        f"model with noise in its weights is better: {name} {noisy.value:.6g}, the float model "
        f"{value:.6g}",
        f"set metric_direction to {other!r}, or see whether {used}() returns what {name} says",
        figures={"float": value, "noisy": noisy.value},
    )


def _ignores_outputs(context: GateContext) -> Iterator[Finding]:
    """See whether weights of zeros, and random ones, score as the float model does."""
    used, value = context.scored.used, context.scored.value
    for other in scrambled(context.graph):
        again = call_again(context.contract, used, other, seed=context.options.seed)
        if again.value != value:
            return
    yield Finding(
        FindingKind.WARNING,
        "ignores_the_outputs",
        f"{used}()",
        f"{used}() gives the float model {value:.6g}, and exactly as much to copies of it with "
        "noise in the weights, with zeros and with random weights: no setting can change it",
        f"let {used}() compute its metric from what the graph puts out, and see that the model is "
        "a trained one",
        figures={"value": value},
    )


def compare_trial(context: GateContext) -> Iterator[Finding]:
    """Hold the trial's outputs against the float model's, on calibration and on scored samples."""
    watcher = context.scored.watcher
    drawn = watcher.drawn() if isinstance(watcher, ScoredInputs) else []
    names = tuple(context.graph.inputs)
    if len(drawn) != len(names):
        return
    device = context.contract.config.device
    axes = context.model.batch_axes or (0,) * len(names)
    scored = [
        Batch(tuple(map(_as_batch, drawn, axes, [place] * len(axes))), names, axes).map(
            lambda tensor: tensor.to(device)
        )
        for place in range(min(_COMPARED, max(map(len, drawn))))
    ]
    noises = _healthy_and_useless(context, context.trial.graph, scored)
    if noises is not None and (context.draw() or context.has("drawn")):
        # The trial may have seen no state but zeros.
        steps = max(len(context.drawn) // _DRAWN, 1)
        trial = quantize_trial(context, context.drawn[::steps])
        noises = _healthy_and_useless(context, trial.graph, scored)
    if noises is None:
        return
    on_calibration, on_scored = noises
    yield Finding(
        FindingKind.WARNING,
        "healthy_and_useless",
        f"{context.scored.used}()",
        "a trial quantization agrees with the float model on calibration samples (noise:signal "
        f"{on_calibration:.2g}) and not on the samples that {context.scored.used}() scores "
        f"({on_scored:.2g}): every layer will look healthy, and the score will not",
        "preprocess calibration and scored samples by one function",
        figures={"calibration_noise": on_calibration, "scored_noise": on_scored},
    )


_COMPARED = 4
"""Samples of each side that the trial is run on."""

_DRAWN = 16
"""Batches, of all that calibrate, by which a doubtful trial is quantized again."""


def _healthy_and_useless(
    context: GateContext, graph: Any, scored: list[Batch]
) -> tuple[float, float] | None:
    """Return noise:signal on calibration and on scored samples where only the first is healthy."""
    # One by one, for a graph whose batch size is fixed.
    calibration = first_samples(context.batches, _COMPARED)
    noises = [_noise(context, graph, batches) for batches in (calibration, scored)]
    on_calibration, on_scored = noises
    if on_calibration is None or on_scored is None:
        return None
    if on_calibration > SANITY.healthy_noise or on_scored < SANITY.useless_noise:
        return None
    return on_calibration, on_scored


def _as_batch(values: Tensor, axis: int | None, place: int) -> Tensor:
    """Return one of the samples, which lie first, as a batch of one with its samples at an axis."""
    if axis is None:
        return values[0]
    place = min(place, len(values) - 1)
    return values[place : place + 1].movedim(0, axis)


def _noise(context: GateContext, graph: Any, batches: list[Batch]) -> float | None:
    """Return noise:signal power over all outputs; None where they have no signal."""
    device = context.contract.config.device
    noise = signal = 0.0
    for batch in batches:
        exact = run_graph(context.graph, batch, device)
        outputs = run_graph(graph, batch, device)
        for wanted, found in zip(exact, outputs, strict=True):
            signal += float((wanted.double() ** 2).sum())
            noise += float(((found.double() - wanted.double()) ** 2).sum())
    return noise / signal if signal > 0 else None


@dataclass(frozen=True)
class _Rate:
    share: float
    samples: int


def _chance(context: GateContext) -> Iterator[Finding]:
    config, scored = context.contract.config, context.scored
    rate, classes = _rate(context), _classes(context)
    if rate is None or classes is None or config.metric_direction != Direction.MAX:
        return
    chance = 1.0 / classes
    error = math.sqrt(chance * (1 - chance) / rate.samples)
    if rate.share > chance + SANITY.chance_errors * error:
        return
    yield Finding(
        FindingKind.WARNING,
        "score_at_chance",
        f"{scored.used}()",
        f"the float model's {config.primary_metric} {scored.value:.6g} is what guessing among "
        f"{classes} outputs gives ({chance:.1%} of {rate.samples} samples)",
        "see that labels belong to their samples and number the outputs as the model does, that "
        "the weights are loaded, and that samples are preprocessed as in training",
        figures={"value": scored.value, "chance": chance, "samples": rate.samples},
    )


def _rate(context: GateContext) -> _Rate | None:
    """Return the share of right decisions; None where the metric is not known to be that."""
    config, scored, facts = context.contract.config, context.scored, context.score_facts
    if not _DECISIONS.fullmatch(config.primary_metric.strip()):
        return None
    unit = facts.metric_unit or config.metric_unit
    if unit is None:
        unit = MetricUnit.FRACTION if scored.value <= 1.0 else MetricUnit.PERCENT
    count = facts.sample_count or facts.samples_seen
    share = scored.value / _SCALE[MetricUnit(unit)]
    return _Rate(share, count) if count and 0 <= share <= 1 else None


def _classes(context: GateContext) -> int | None:
    """Return the number of classes of a model whose one output is a vector."""
    outputs: list[Any] = run_graph(
        context.graph, context.probe().first(1), context.contract.config.device
    )
    if len(outputs) != 1 or outputs[0].dim() != 2 or outputs[0].shape[1] < 2:
        return None
    return int(outputs[0].shape[1])


def _count(context: GateContext) -> Iterator[Finding]:
    vector, used = context.scored.per_sample, context.scored.used
    seen = context.score_facts.samples_seen
    # Several forwards per sample are a sequence, or an average over variants of it.
    if vector is None or not seen or seen % len(vector) == 0 or len(context.graph.inputs) > 1:
        return
    yield Finding(
        FindingKind.WARNING,
        "per_sample_length",
        f"{used}()",
        f"{used}() ran the graph on {seen} samples, and its per_sample has {len(vector)} results",
        "return one result per sample, in their order: intervals and verdicts rest on them",
        figures={"seen": seen, "results": len(vector)},
    )


def _target(context: GateContext) -> Iterator[Finding]:
    config, value = context.contract.config, context.scored.value
    target, name = config.target_metric, config.primary_metric
    if target is None or config.metric_direction != Direction.MAX:
        return
    unit = context.score_facts.metric_unit or config.metric_unit
    best = None if unit is None else _SCALE[MetricUnit(unit)]
    figures = {"target": target, "float": value}
    where = 'QUANT_CONFIG["target_metric"]'
    if best is not None and target > best:
        yield Finding(
            FindingKind.FAULT,
            "target_out_of_reach",
            where,
            f"target_metric is {target:g}, and {name} ends at {best:g}: the float model has "
            f"{value:.6g}",
            f"give the target in the unit of {name}, or leave it out",
            figures=figures,
        )
    elif 0 < value <= 1 < target and target >= SANITY.percent_as_fraction * value:
        yield Finding(
            FindingKind.WARNING,
            "target_out_of_reach",
            where,
            f"target_metric is {target:g}, {target / value:.3g} times the float model's {name} "
            f"{value:.6g}: one is in percent",
            f"give the target in the unit of {name}",
            figures=figures,
        )
    elif 0 < target <= 1 and value >= SANITY.percent_as_fraction * target:
        yield Finding(
            FindingKind.WARNING,
            "target_reached_by_anything",
            where,
            f"target_metric is {target:g}, and the float model's {name} is {value:.6g}: the "
            "search will stop at its first iteration; one is in percent",
            f"give the target in the unit of {name}",
            figures=figures,
        )
    elif target > value + SANITY.target_above_float * abs(value):
        yield Finding(
            FindingKind.WARNING,
            "target_above_float",
            where,
            f"target_metric is {target:g}, above the float model's {name} {value:.6g}: "
            "quantization loses, so that the search will not stop by it",
            "set it below the float model's score, or leave it out",
            figures=figures,
        )


def _differ(first: float, second: float) -> bool:
    return abs(first - second) > SANITY.same_value * max(abs(first), abs(second), 1e-12)
