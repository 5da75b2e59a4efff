"""What a score is worth: its interval, what it can be told from, and what it was taken on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from espdl_quantize.core import (
    Command,
    Hint,
    Json,
    Option,
    OutputFolderError,
    Verdict,
    read_json,
)
from espdl_quantize.record import NO_LABELS, History, Iteration
from espdl_quantize.record import comparison as parts
from espdl_quantize.record.files import CONFIRMED, DRAWS, REPEAT, iteration_name
from espdl_quantize.report._escape import number, plain
from espdl_quantize.report.scores import decides_classes, show_score
from espdl_quantize.setting import setting_key
from espdl_quantize.stats import Comparison, Interval

UNKNOWN = "noise unknown"
"""Of the metric: whether a difference is more than chance, nothing says."""


def certainty_of(history: History, record: Iteration) -> dict[str, Any]:
    """Return the fields of comparison.json that tell of the noise of one score."""
    interval = history.noise.interval(record)
    return {
        "sample_count": record.sample_count,
        "interval": _interval_entry(interval),
        "versus_prior_best": _test_entry(history.versus(record, history.prior_best[record.id])),
        "versus_best": _test_entry(_unless_same(history, record, history.best)),
        "versus_baseline": _test_entry(_unless_same(history, record, history.baseline)),
        "signals": signals_of(record),
        "samples_shared_with_calibration": record.samples_shared_with_calibration,
    }


def signals_of(record: Iteration) -> parts.OutputNoises | None:
    """Return how far an iteration's outputs are from the float model's."""
    signals = record.signals
    return None if signals is None else parts.OutputNoises(**asdict(signals))


def show_interval(interval: Interval | None) -> str:
    """Write an interval, "-" for an unknown one."""
    return "-" if interval is None else f"{interval.low:.4g} to {interval.high:.4g}"


def show_signals(record: Iteration) -> tuple[str, str]:
    """Write the noise at the outputs and the agreement with the float model, in percent."""
    signals = record.signals
    noise = None if signals is None else signals.noise_signal
    agreement = None if signals is None else signals.agreement
    return (
        "-" if noise is None else f"{noise:.3g}",
        "-" if agreement is None else f"{agreement:.1%}",
    )


def verdict_of(history: History, record: Iteration) -> str:
    """Say in a word how an iteration compares with best."""
    if record.value is None or history.best is None or record.id == history.best.id:
        return "-"
    versus = history.versus(record, history.best)
    if versus is not None:
        return versus.verdict
    return f"outputs alike, {UNKNOWN}" if history.is_chance(record, history.best) else UNKNOWN


def why_best(history: History, record: Iteration) -> str:
    """Say why the best changed with an iteration; empty where it did not.

    Args:
        history: up to and with the iteration.
        record: the newest iteration.
    """
    best, prior = history.best, history.prior_best[record.id]
    if best is None or best is prior:
        return ""
    name = "" if best is record else f"{best.name}, "
    if prior is None:
        return f"{name}the first score"
    gain = history.height(best) - history.height(prior)
    budgets = history.budgets.bounds
    if budgets and history.keeps_budgets(best) and not history.keeps_budgets(prior):
        return f"{name}it keeps the budgets of the chip, which {prior.name} does not"
    versus = history.versus(best, prior)
    if versus is None:
        return f"{name}a better score than {prior.name}, {UNKNOWN}"
    if versus.verdict == Verdict.BETTER:
        return f"{name}better than {prior.name} beyond noise"
    if prior not in history.prices.cheapest((best, prior)):
        return f"{name}as good as {prior.name} within noise, and it costs the chip less"
    if gain > 0:
        return f"{name}it scores higher than {prior.name}, within noise"
    return f"{name}as good as {prior.name} within noise, with less noise at its outputs"


def certainty_lines(history: History) -> list[str]:
    """Say how sure the result is, in sentences without markup."""
    best, first = history.best, history.baseline
    if best is None or best.value is None or first is None:
        return []
    lines = []
    interval = history.noise.interval(best)
    if interval is None:
        lines.append(no_interval(best))
    else:
        lines.append(
            f"{best.name} {show_score(history, best.value)}, 95 % interval "
            f"{show_interval(interval)} ({interval.method}, {best.sample_count} samples)."
        )
    if first.id != best.id and (versus := history.versus(best, first)) is not None:
        lines.append(f"Against the baseline {first.name}: {tell(versus)}.")
    lines += _choice_lines(history, best)
    lines += _ties(history, best)
    lines += _draw_lines(history)
    if best.signals is not None and best.signals.noise_signal is not None:
        noise, agreement = show_signals(best)
        sentence = f"On {best.signals.samples} held-out samples the outputs of {best.name} have "
        sentence += f"noise:signal {noise} against the float model"
        if best.signals.agreement is not None and decides_classes(history):
            sentence += f" and the same largest class on {agreement}"
        lines.append(f"{sentence}.")
    return lines


def final_of(history: History) -> parts.FinalScores:
    """Return what comparison.json says of the final scores."""
    best = history.best
    scores = tuple(
        parts.FinalEntry(
            iteration_id=number,
            evaluated_by=final.score.evaluated_by,
            primary_value=final.score.value,
            float_value=final.score.float_value,
            interval=_interval_entry(history.final_noise.interval(final.score)),
            sample_count=final.score.sample_count,
            signals=signals_of(final.score),
            same_model=final.same_model,
            samples_shared_with_search=final.score.samples_shared_with_search,
            samples_shared_with_calibration=final.score.samples_shared_with_calibration,
        )
        for number, final in history.finals.items()
    )
    return parts.FinalScores(
        taken=best is not None and best.id in history.finals,
        scores=scores,
        best_versus_baseline=_test_entry(history.final_versus_baseline()),
        sentences=tuple(final_lines(history)),
    )


def final_lines(history: History) -> list[str]:
    """Say what the final score is, or that there is none and what follows from it."""
    best = history.best
    if best is None or best.value is None:
        return []
    final = history.finals.get(best.id)
    if final is None:
        return _no_final(history, best)
    score, used = final.score, final.score.evaluated_by
    count = f" on {score.sample_count} samples" if score.sample_count else ""
    interval = history.final_noise.interval(score)
    sentence = f"Final score of {best.name} by {used}(){count}: {number(score.value)}"
    if interval is not None:
        sentence += f", 95 % interval {show_interval(interval)}"
    if score.float_value is not None:
        sentence += f"; float model {number(score.float_value)}"
    first = history.baseline
    base = history.finals.get(first.id) if first is not None and first.id != best.id else None
    if base is not None and first is not None:
        sentence += f"; baseline {first.name} {number(base.score.value)}"
    lines = [f"{sentence}."]
    versus = history.final_versus_baseline()
    if versus is not None:
        lines.append(f"Final score against the baseline's: {tell(versus)}.")
    lines.append(
        {
            True: "The graph that it was taken of was quantized once more and exports to "
            "best/model.espdl byte for byte: it is the same model.",
            False: "The graph that it was taken of was quantized once more and does not export to "
            "the same bytes as best/model.espdl: it is a twin of that model, made by the same "
            "setting and seed, and not the very same.",
            None: "Whether it was taken of the same graph as best/model.espdl cannot be checked: "
            "the iteration's model is not there.",
        }[final.same_model]
    )
    shared = score.samples_shared_with_search
    if shared:
        lines.append(
            f"{shared} of its samples were scored by the search, too, so it is not wholly free of "
            "the choice of the best."
        )
    if score.samples_shared_with_calibration:
        lines.append(
            f"{score.samples_shared_with_calibration} of its samples are calibration samples: it "
            "is not of held-out data."
        )
    return lines


def score_source(history: History) -> str:
    """Say which function of the contract the score is from, and what that means for it."""
    best = history.best
    if best is None:
        return "No iteration has a score."
    used = {record.evaluated_by for record in history.scored}
    if best.evaluated_by == "evaluate_fast":
        sentence = "The scores are from the contract's evaluate_fast(), which is for searching."
        if best.id in history.finals:
            return sentence
        return Hint(
            f"{sentence} For the score of evaluate(), run best/setting.json once more with ",
            Option.USE_FULL_EVAL.of(True),
            ", or take the final score.",
        )
    if used == {NO_LABELS}:
        counted = f"{best.sample_count} " if best.sample_count else ""
        return (
            f"No label was used: {best.metric} says how well the outputs agree with the float "
            f"model's on {counted}held-out samples, not how often they are right."
        )
    if best.evaluated_by is None:
        return "No record says which function of the contract the scores are from."
    if used == {"evaluate"} and len(history.scored) > 1:
        sentence = (
            "The scores are from the contract's evaluate(). The same function chose the best of "
            f"{len(history.scored)} scored iterations"
        )
        if best.id in history.finals:
            return f"{sentence}; the final score took no part in it."
        return (
            f"{sentence}, so the final score is also the score it was selected by: on data that "
            "took no part in the choice, expect a little less."
        )
    if len(used) > 1:
        return (
            f"{best.name} was scored by the contract's {plain(best.evaluated_by, 60)}(), other "
            "iterations by another function: their scores may not compare."
        )
    return f"The score is from the contract's {plain(best.evaluated_by, 60)}()."


def _no_final(history: History, best: Iteration) -> list[str]:
    if best.final_by is None:
        return []
    return [
        Hint(
            f"No final score was taken of {best.name}: ",
            Command.FINAL,
            f" takes it by {best.final_by}(), and ",
            Command.TUNE,
            " does so at its end.",
        )
    ]


def _interval_entry(interval: Interval | None) -> parts.ScoreInterval | None:
    if interval is None:
        return None
    return parts.ScoreInterval(low=interval.low, high=interval.high, method=interval.method)


def tell(comparison: Comparison) -> str:
    """Write a comparison in words."""
    text = f"{comparison.verdict}, difference {number(comparison.difference, sign=True)}"
    if comparison.low is not None and comparison.high is not None:
        text += f" (95 % {comparison.low:+.4g} to {comparison.high:+.4g}"
        text += (
            f"; p {comparison.p:.2g}, {comparison.test})"
            if comparison.p is not None
            else f"; {comparison.test})"
        )
    if not comparison.paired:
        text += (
            ", a test that does not know which samples were right and so calls too much noise: "
            "return per_sample for a sharper one"
        )
    return text


def no_interval(record: Iteration) -> str:
    """Say what a contract would have to give for an interval."""
    return (
        f"{record.name} {number(record.value)} has no interval: let evaluate() return per_sample, "
        "with an aggregate() in the contract where the metric is no mean over the samples, or set "
        'metric_unit to "percent" or "fraction" where it is a share of them.'
    )


def _choice_lines(history: History, best: Iteration) -> list[str]:
    """Say what the choice of the best of several costs."""
    bias, count = history.selection_bias, len(history.scored)
    if bias is None:
        return []
    line = (
        f"The choice of the best of {count} by these samples makes it look at least {bias:.2g} "
        "better than it is (bootstrap)"
    )
    final = history.finals.get(best.id)
    if final is None:
        return [f"{line}; a final score on other samples would not have that."]
    return [f"{line}; its final score, {number(final.score.value)}, took no part in the choice."]


def _ties(history: History, best: Iteration) -> list[str]:
    top, near = history.top, history.near_top
    if top is None or len(near) < 2:
        return []
    names = ", ".join(record.name for record in near if record.id != best.id)
    lines = [f"Cannot be told from {best.name}, the difference being within noise: {names}."]
    if top.id != best.id:
        prices = history.prices
        is_cheaper = top not in prices.cheapest((best, top))
        why = "costs the chip less" if is_cheaper else "has less noise at its outputs"
        if number(top.value) == number(best.value):
            lines.append(f"{top.name} has the same score; {best.name} is the best since it {why}.")
        else:
            lines.append(
                f"{top.name} has the highest score, {number(top.value)}; {best.name} is the best "
                f"all the same, since it {why} and the difference is within noise."
            )
    return lines


def _unless_same(history: History, record: Iteration, other: Iteration | None) -> Comparison | None:
    return None if other is None or other.id == record.id else history.versus(record, other)


def _test_entry(comparison: Comparison | None) -> parts.ScoreTest | None:
    return None if comparison is None else parts.ScoreTest(**asdict(comparison))


def _draw_lines(history: History) -> list[str]:
    """Say how far best's score moves with the calibration data, and how its rival's does."""
    best = history.best
    if best is None or best.setting is None:
        return []
    folder = history.folder / REPEAT
    lines = []
    summary = _read(folder / setting_key(best.setting)[:12] / DRAWS)
    mean, spread = _stated(summary.get("mean")), _stated(summary.get("standard_deviation"))
    draws = summary.get("draws")
    if mean is not None and spread is not None and isinstance(draws, list):
        low, high = _stated(summary.get("lowest")), _stated(summary.get("highest"))
        lines.append(
            f"Over {len(draws)} draws of the calibration data the setting of {best.name} scores "
            f"{number(mean)} on average, standard deviation {spread:.3g}, from {number(low)} to "
            f"{number(high)}."
        )
    confirmed = _read(folder / CONFIRMED)
    versus = confirmed.get("best_versus_rival")
    rival = confirmed.get("rival")
    if confirmed.get("best") == best.id and isinstance(rival, int) and isinstance(versus, dict):
        difference, verdict = _stated(versus.get("mean_difference")), versus.get("verdict")
        lines.append(
            f"On the same draws it is {verdict} against its nearest rival {iteration_name(rival)}: "
            f"{number(difference, sign=True)} on average (Student's test over the draws)."
        )
    return lines


def _read(path: Path) -> Json:
    try:
        return read_json(path)
    except OutputFolderError:
        return {}


def _stated(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
