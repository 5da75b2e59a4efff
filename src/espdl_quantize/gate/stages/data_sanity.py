"""Whether the calibration data says anything, and whether it is like what is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from espdl_quantize.core import Finding, FindingKind
from espdl_quantize.gate._context import GateContext
from espdl_quantize.gate.statistics import (
    ScoredInputs,
    difference,
    samples_first,
    spread,
    statistics_of,
)
from espdl_quantize.gate.thresholds import SANITY

if TYPE_CHECKING:
    from torch import Tensor

_LOADER = "create_calib_dataloader()"
_SAME = (
    "preprocess calibration and scored samples by one function: the same scaling, mean, order of "
    "channels and layout"
)


def examine_calibration(context: GateContext) -> Iterator[Finding]:
    """Look for calibration that is constant, all zero, or too small for any exponent.

    An input of zeros among others may be a state, and a constant a rate: all inputs together must
    hold something. The first batches of sequences may well hold nothing, and all are read then.
    """
    findings = list(_nothing(context))
    if findings and context.draw():
        findings = list(_nothing(context))
    yield from findings


def _nothing(context: GateContext) -> Iterator[Finding]:
    inputs = _calibration(context)
    all_statistics = [statistics_of(values) for values in inputs.values()]
    largest = max(each.largest for each in all_statistics)
    if largest == 0:
        yield _fault("zero_calibration", "every calibration sample is all zeros", largest)
    elif all(each.low == each.high for each in all_statistics):
        value = all_statistics[0].low
        message = f"every value of every calibration sample is {value:.6g}"
        yield _fault("constant_calibration", message, value)
    elif largest < SANITY.smallest_input:
        yield _fault(
            "tiny_calibration",
            f"no calibration value is beyond {largest:.3g} in absolute value, and the chip's "
            f"smallest exponent is made for {SANITY.smallest_input:.3g}",
            largest,
        )
    elif len(next(iter(inputs.values()))) > 1 and all(
        bool((values == values[:1]).all()) for values in inputs.values()
    ):
        count = len(next(iter(inputs.values())))
        yield Finding(
            FindingKind.WARNING,
            "repeated_sample",
            _LOADER,
            f"the first {count} calibration samples are all the same",
            "let the loader give samples that are drawn from the data",
            figures={"samples": count},
        )


def compare_inputs(context: GateContext) -> Iterator[Finding]:
    """Hold what is scored against what calibrates, input by input.

    What is odd in the first batches is looked for in all of them before it is reported.
    """
    watcher = context.scored.watcher
    drawn = watcher.drawn() if isinstance(watcher, ScoredInputs) else []
    findings = list(_differences(context, drawn))
    if findings and context.draw():
        findings = list(_differences(context, drawn))
    yield from findings


def _differences(context: GateContext, drawn: Sequence[Tensor]) -> Iterator[Finding]:
    inputs = _calibration(context)
    if len(drawn) != len(inputs):
        return
    for (name, calibration), scored in zip(inputs.items(), drawn, strict=True):
        if calibration.shape[1:] != scored.shape[1:]:
            continue
        odd = difference(statistics_of(calibration), statistics_of(scored), scored)
        if odd is None:
            continue
        yield Finding(
            FindingKind.FAULT if odd.clear else FindingKind.WARNING,
            f"calibration_unlike_scoring_{odd.what.replace(' ', '_')}",
            f"input {name!r}",
            f"calibration and {context.scored.used}() give input {name!r} other data ({odd.what}): "
            f"{odd.text}",
            _SAME,
            figures=odd.figures,
        )


def _calibration(context: GateContext) -> dict[str, Tensor]:
    """Return the calibration samples by input, in the order of the graph's where that is known."""
    first = context.batches[0]
    names = list(context.graph.inputs) if context.has("graph") else list(first.names or ())
    if len(names) != len(first.tensors):
        names = [str(place) for place in range(len(first.tensors))]
    by_name = [
        {
            name: samples_first(tensor, axis)
            for (name, tensor), axis in zip(
                batch.by_name(names).items(), batch.axes_by_name(names), strict=True
            )
        }
        for batch in (context.drawn if context.has("drawn") else context.batches)
    ]
    return {name: spread([each[name] for each in by_name]) for name in by_name[0]}


def _fault(code: str, message: str, value: float) -> Finding:
    return Finding(
        FindingKind.FAULT,
        code,
        _LOADER,
        f"{message}: no scale can come of that",
        "let the loader give real samples, preprocessed as those that are scored",
        figures={"value": value},
    )
