"""The pass that searches for better exponents, one at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from esp_ppq.core import QuantizationStates
from esp_ppq.quantization.optim import EspdlLUTFusionPass, ParameterBakingPass
from esp_ppq.quantization.optim.base import QuantizationOptimizationPass
from esp_ppq.quantization.optim.training import TrainingBasedPass
from torch import Tensor

from espdl_quantize.contract import Batch
from espdl_quantize.core import Progress
from espdl_quantize.ppq.exponents.groups import Exponents, Group, has_bias
from espdl_quantize.ppq.exponents.objective import Trial, is_worth
from espdl_quantize.ppq.fast import OpRunner, fake_quantize, quantize_plainly
from espdl_quantize.setting import ExponentSearch

_BY_CHANNEL = (0, -1, 1, -2)
"""Steps that are tried for the weights of each channel; the first wins a tie."""


class ExponentSearchPass(QuantizationOptimizationPass):  # type: ignore[misc]
    """Moves one exponent up or down at a time, and keeps what brings the outputs nearer to float.

    esp-ppq's calibrations choose each exponent from the values of one tensor, and none of its
    trainings moves one at the usual rates. This pass judges a move by the outputs: it runs again
    what depends on the exponent, on samples that calibration did not see where there are any.

    Args:
        section: says how far it goes.
        batches: of the contract.
        calibrated: how many of them the calibration saw.
        device: where the graph runs.
        progress: receives every tensor.
        plainly: quantize by esp-ppq alone.

    Attributes:
        moves: how many were kept.
        errors: of the outputs before and after; see :class:`Trial`.
    """

    def __init__(
        self,
        section: ExponentSearch,
        batches: Sequence[Batch],
        calibrated: int,
        device: str,
        progress: Progress,
        *,
        plainly: bool = False,
    ) -> None:
        super().__init__(name="Exponent Search Pass")
        self._section, self._device, self._progress = section, device, progress
        self._quantize = quantize_plainly if plainly else fake_quantize
        self._batches = _chosen([*batches[calibrated:], *batches[:calibrated]], section.samples)
        self.moves = 0
        self.errors = (0.0, 0.0)

    @property
    def given(self) -> tuple[Any, ...]:
        """All that decides on the result beside the graph."""
        return (self._section.model_dump(mode="json"), [batch.tensors for batch in self._batches])

    def optimize(self, graph: Any, **others: Any) -> None:
        """Search; afterwards the graph has the best exponents that were found."""
        order = graph.topological_sort()
        exponents = Exponents(order, self._section.layers)
        if not exponents.groups:
            return
        with torch.no_grad():
            trial = Trial(graph, order, self._batches, OpRunner(self._device, self._quantize))
            self._search(exponents, trial)
        before, after = self.errors
        print(f"{self.moves} moves, error of the outputs {before:.3g} -> {after:.3g}")

    def _search(self, exponents: Exponents, trial: Trial) -> None:
        before, idle = float(trial.error.mean()), 0
        groups = exponents.groups
        total = len(groups) * self._section.rounds
        for visit in range(total):
            # Nothing has moved since each of the others was tried.
            if idle == len(groups):
                break
            now = float(trial.error.mean())
            detail = f"tensor {visit % len(groups) + 1} of {len(groups)}, error {now:.3g}"
            self._progress.update(visit, total, detail)
            gained = _improve(exponents, trial, groups[visit % len(groups)])
            self.moves += gained
            idle = 0 if gained else idle + 1
        self.errors = (before, float(trial.error.mean()))


def insert_search(pipeline: Any, search: ExponentSearchPass) -> None:
    """Put the pass behind calibration, and before what trains weights against the exponents."""
    later = (TrainingBasedPass, ParameterBakingPass, EspdlLUTFusionPass)
    passes = list(pipeline)
    # Bias correction is one that trains, too, and is to see the exponents that stay.
    places = (at for at, each in enumerate(passes) if isinstance(each, later))
    pipeline._pipeline.insert(next(places, len(passes)), search)


def _improve(exponents: Exponents, trial: Trial, group: Group) -> int:
    """Move a group as long as that is better; return how often."""
    if not _can_gain(trial, group):
        return 0
    moves = 0
    if group.channels > 1:
        steps = _best_by_channel(exponents, trial, group)
        return 0 if steps is None else int(_try(exponents, trial, group, [steps]) is not None)
    ways: list[int | Tensor] = [1, -1]
    while ways:
        way = _try(exponents, trial, group, ways)
        if way is None:
            break
        moves, ways = moves + 1, [way]
    return moves


def _can_gain(trial: Trial, group: Group) -> bool:
    """Tell whether the outputs gain where the group's tensors are not rounded at all.

    Where they do not, no other way to round them is worth a try: most groups of a large network.
    """
    owners = {id(config) for config in group.configs}
    pairs = (pair for op in group.ops for pair in op.config_with_variable)
    followers = [config for config, _ in pairs if id(config.dominated_by) in owners]
    with _exact([*group.configs, *followers]):
        return trial.with_move(group) is not None


def _try(
    exponents: Exponents, trial: Trial, group: Group, ways: Sequence[int | Tensor]
) -> int | Tensor | None:
    """Make the best of some moves, and return it; None where none is better than staying."""
    best: tuple[float, int | Tensor, Any, Any] | None = None
    former, excess = group.scales, None
    for way in ways:
        scales = exponents.moved(group, way)
        if scales is None:
            continue
        exponents.move(group, scales)
        try:
            outcome = trial.with_move(group)
            if outcome is not None and is_worth(outcome[0], trial.error):
                mean = float(outcome[0].mean())
                if best is None or mean < best[0]:
                    more = _overflows(trial, group)
                    exponents.move(group, former)
                    excess = _overflows(trial, group) if excess is None else excess
                    if more <= excess:
                        best = (mean, way, scales, outcome)
        finally:
            exponents.move(group, former)
    if best is None:
        return None
    _, way, scales, (error, changes) = best
    exponents.move(group, scales)
    trial.keep(error, changes)
    return way


def _best_by_channel(exponents: Exponents, trial: Trial, group: Group) -> Tensor | None:
    """Return the steps that bring each channel of one op's output nearest to exact weights."""
    if len(group.ops) != 1 or len(group.configs) != 1:
        return None
    op, config = group.ops[0], group.configs[0]
    inputs, former = op.config.input_quantization_config, group.scales
    if inputs[1].dominated_by is not config or former[0].numel() == 1:
        return None
    with _exact(op.config.output_quantization_config[:1]):
        with _exact(inputs[1:]):
            exact = trial.outputs_of(op)
        if not exact:
            return None
        errors = []
        for step in _BY_CHANNEL:
            exponents.move(group, (former[0] * 2.0**step,))
            found = trial.outputs_of(op)
            errors.append(sum(_by_channel(*pair) for pair in zip(found, exact, strict=True)))
            exponents.move(group, former)
    table = torch.stack([torch.as_tensor(each) for each in errors])
    if table.shape[1] != former[0].numel():
        return None
    room = exponents.room(op)
    for row, step in zip(table, _BY_CHANNEL, strict=True):
        if step > 0:
            # No channel is shifted left for it.
            row[(room < step).expand_as(row)] = math.inf
    steps = torch.tensor(_BY_CHANNEL)[table.argmin(0)]
    return steps.view_as(former[0]) if bool(steps.any()) else None


def _by_channel(found: Tensor, exact: Tensor) -> Tensor:
    squares = (found - exact).double().square().cpu()
    return squares.movedim(1, 0).flatten(1).sum(1)


def _overflows(trial: Trial, group: Group) -> int:
    """Count the sums of a group's ops that the chip's accumulator does not hold."""
    count = 0
    for op in group.ops:
        if not has_bias(op):
            continue
        # esp-ppq gives a bias the width of the accumulator.
        bias = op.config.input_quantization_config[2]
        limit = 2.0 ** (bias.num_of_bits - 1) * bias.scale
        with _exact(op.config.output_quantization_config[:1]):
            for sums in trial.outputs_of(op):
                per_channel = limit.view(-1, *[1] * (sums.dim() - 2)) if limit.dim() else limit
                count += int((sums.abs() >= per_channel).sum())
    return count


@contextlib.contextmanager
def _exact(configs: Sequence[Any]) -> Iterator[None]:
    """Leave tensors as they are within the block."""
    configs = list({id(config): config for config in configs}.values())
    states = [config.state for config in configs]
    for config in configs:
        config.state = QuantizationStates.FP32
    try:
        yield
    finally:
        for config, state in zip(configs, states, strict=True):
            config.state = state


def _chosen(batches: Sequence[Batch], samples: int) -> list[Batch]:
    chosen: list[Batch] = []
    for batch in batches:
        if chosen and sum(each.sample_count for each in chosen) >= samples:
            break
        chosen.append(batch)
    return chosen
