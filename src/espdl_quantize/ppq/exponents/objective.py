"""How far the outputs of a quantized graph are from the float graph's, and that again after a move.

A move of an exponent changes what the ops behind it compute; everything before them is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from esp_ppq.IR import QuantableOperation
from torch import Tensor

from espdl_quantize.contract import Batch
from espdl_quantize.ppq.exponents.groups import Group
from espdl_quantize.ppq.fast import OpRunner, count_readers, feed, inputs_of, release, store
from espdl_quantize.ppq.measure.plan import leading_to

_LEAST = 1e-30
"""Of the power of an output, which noise is divided by."""

_MEMORY = 1 << 29
"""Bytes of activations that are kept; of a large network fewer batches are looked at."""

_FEW = 16
"""Samples after which the first batches tell something."""

_SUM = 1e-3
"""How far the sum of probabilities may be from 1."""

_LOWEST = 1e-9
"""Of a probability whose logarithm is taken."""

SURE = 2.0
"""Standard errors of the mean difference over the samples by which a move must be better."""

WORTH = 0.005
"""Of the error: a move that is better by less is left alone."""

_HOPE = 0.5
"""Of that: a move that wins less on the first batches is not tried on the others."""

Values = dict[str, Tensor]


class Trial:
    """Runs a quantized graph on some batches, whole once and then what a move changes.

    Args:
        graph: a quantized ``BaseGraph``.
        order: its ops, in the order in which they run.
        batches: the samples; at least one batch.
        runner: runs an op.

    Attributes:
        error: of the outputs, per sample: the power of the noise over that of the signal, the mean
            over the outputs. Where the one output is probabilities, their divergence; where it is
            a row of numbers that may be classes, both, each as a share of half of what it was.
            Where the outputs do not have the samples along their first axis, one for the batch.
    """

    def __init__(
        self, graph: Any, order: Sequence[Any], batches: Sequence[Batch], runner: OpRunner
    ) -> None:
        self._graph, self._runner = graph, runner
        useful = leading_to(tuple(order), graph.outputs)
        self._order = [op for op in order if op.name in useful]
        feeds = [feed(graph, batch) for batch in batches]
        self._values = [self._run(feeds[0])]
        size = sum(value.nbytes for value in self._values[0].values())
        feeds = feeds[: max(_MEMORY // max(size, 1), 1)]
        self._values += [self._run(inputs) for inputs in feeds[1:]]
        counts = [batch.sample_count for batch in batches[: len(feeds)]]
        self._targets = _targets(self._float_outputs(feeds), counts)
        self._weights = torch.ones(1, dtype=torch.float64)
        pairs = list(zip(self._targets, self._values, strict=True))
        if self._targets[0].parts > 1:
            parts = [target.errors(_outputs(graph, values, {})) for target, values in pairs]
            self._weights = 0.5 / torch.cat(parts, 1).mean(1).clamp_min(_LEAST)
        self.error = torch.cat([self._error(target, values, {}) for target, values in pairs])

    def with_move(self, group: Group) -> tuple[Tensor, list[Values]] | None:
        """Return the error, and the changed values by batch, now that a group has moved.

        Returns:
            None where the first batches show no gain that is worth it.
        """
        starts = {op.name for op in group.ops}
        errors, changes, before = [], [], self.error
        for values, target in zip(self._values, self._targets, strict=True):
            changed = self._rerun(starts, values)
            errors.append(self._error(target, values, changed))
            changes.append(changed)
            found = torch.cat(errors)
            gain = before[: len(found)] - found
            if len(found) < _FEW:
                continue
            if not float(gain.mean()) > _HOPE * WORTH * float(before[: len(found)].mean()):
                return None
        return found, changes

    def keep(self, error: Tensor, changes: Sequence[Values]) -> None:
        """Take a move's outcome for what the graph computes now."""
        self.error = error
        for values, changed in zip(self._values, changes, strict=True):
            values.update(changed)

    def outputs_of(self, op: Any) -> list[Tensor]:
        """Return an op's first output on each batch, from the inputs that it has now.

        Returns:
            Nothing for an op that no output depends on.
        """
        if op not in self._order:
            return []
        return [self._runner.run(op, inputs_of(op, values))[0] for values in self._values]

    def _error(self, target: _Target, values: Values, changed: Values) -> Tensor:
        return self._weights @ target.errors(_outputs(self._graph, values, changed))

    def _rerun(self, starts: set[str], values: Values) -> Values:
        changed: Values = {}
        for op in self._order:
            names = [variable.name for variable in op.inputs]
            if op.name not in starts and not any(name in changed for name in names):
                continue
            inputs = [
                changed.get(name, values.get(name, variable.value))
                for name, variable in zip(names, op.inputs, strict=True)
            ]
            outputs = self._runner.run(op, inputs)
            pairs = zip(outputs, op.outputs, strict=False)
            if not all(torch.equal(output, values[to.name]) for output, to in pairs):
                store(op, outputs, changed)
        return changed

    def _run(self, inputs: Values) -> Values:
        values = dict(inputs)
        for op in self._order:
            store(op, self._runner.run(op, inputs_of(op, values)), values)
        return values

    def _float_outputs(self, feeds: Sequence[Values]) -> list[list[Tensor]]:
        quantable = [op for op in self._order if isinstance(op, QuantableOperation)]
        found = []
        for op in quantable:
            op.dequantize()
        try:
            for inputs in feeds:
                values, readers = dict(inputs), count_readers(self._order)
                for op in self._order:
                    store(op, self._runner.run(op, inputs_of(op, values)), values)
                    release(op, values, readers, self._graph.outputs)
                found.append([values[name] for name in self._graph.outputs])
        finally:
            for op in quantable:
                op.restore_quantize_state()
        return found


def is_worth(error: Tensor, now: Tensor) -> bool:
    """Tell whether one error is less than another by enough, and by more than the samples' noise.

    Args:
        error: per sample.
        now: of the same samples.
    """
    gain, count = now - error, len(now)
    spread = float(gain.std()) if count > 1 else 0.0
    least = max(WORTH * float(now.mean()), SURE * spread / math.sqrt(count))
    return float(gain.mean()) > least


class _Target:
    """The float outputs of one batch.

    Args:
        outputs: of the float graph.
        rows: the samples; 1 where they cannot be distinguished.
        powers: the mean power of each output over all batches, per row.
        is_row: the one output is a row of numbers for each sample.
        sums_to_one: these are probabilities.

    Attributes:
        parts: how many errors a sample has.
    """

    def __init__(
        self,
        outputs: Sequence[Tensor],
        rows: int,
        powers: Sequence[float],
        *,
        is_row: bool,
        sums_to_one: bool,
    ) -> None:
        self._rows, self._powers = rows, powers
        self._is_row, self._sums_to_one = is_row, sums_to_one
        self._outputs = [self._in_rows(output) for output in outputs]
        self.parts = 2 if is_row and not sums_to_one else 1

    def errors(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the errors of each sample, float64 [parts, rows]."""
        pairs = list(zip(self._outputs, map(self._in_rows, outputs), strict=True))
        divergence = []
        if self._is_row:
            divergence = [_divergence(*pairs[0], sums_to_one=self._sums_to_one)]
        if self._sums_to_one:
            return torch.stack(divergence)
        noise = [
            (found - exact).square().sum(1) / power
            for (exact, found), power in zip(pairs, self._powers, strict=True)
        ]
        return torch.stack([*divergence, torch.stack(noise).mean(0)])

    def _in_rows(self, output: Tensor) -> Tensor:
        return output.detach().reshape(self._rows, -1).double().cpu()


def _targets(wanted: Sequence[Sequence[Tensor]], counts: Sequence[int]) -> list[_Target]:
    rows = [
        count if all(output.dim() and len(output) == count for output in outputs) else 1
        for outputs, count in zip(wanted, counts, strict=True)
    ]
    powers = [
        max(sum(float(output.double().square().sum()) for output in each) / sum(rows), _LEAST)
        for each in zip(*wanted, strict=True)
    ]
    firsts = [outputs[0] for outputs in wanted]
    is_row = len(wanted[0]) == 1 and firsts[0].dim() == 2 and firsts[0].shape[1] > 1
    sums_to_one = is_row and all(map(_is_distribution, firsts))
    return [
        _Target(outputs, count, powers, is_row=is_row, sums_to_one=sums_to_one)
        for outputs, count in zip(wanted, rows, strict=True)
    ]


def _is_distribution(output: Tensor) -> bool:
    return bool((output >= 0).all()) and bool(((output.sum(1) - 1).abs() < _SUM).all())


def _divergence(exact: Tensor, found: Tensor, *, sums_to_one: bool) -> Tensor:
    """Return Kullback and Leibler's divergence of two rows of classes, for each."""
    if sums_to_one:
        logs = [each.clamp_min(_LOWEST).log() for each in (exact, found)]
    else:
        logs = [each.log_softmax(1) for each in (exact, found)]
    return (logs[0].exp() * (logs[0] - logs[1])).sum(1)


def _outputs(graph: Any, values: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> list[Any]:
    return [changed.get(name, values[name]) for name in graph.outputs]
