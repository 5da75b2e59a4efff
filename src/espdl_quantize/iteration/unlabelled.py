"""The score of a contract without an evaluation: agreement with its own float model.

The held-out samples come from create_score_dataloader(), or they are a share of the calibration
loader's, which then takes no part in calibrating. No label is known of them, and none is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from espdl_quantize.contract import Batch, UnlabelledMetric
from espdl_quantize.core import ContractError
from espdl_quantize.ppq import FloatModel, batch_digests, describe_failure, run_graph

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 0.25
"""Of the calibration loader's samples that score where there is no loader for that: enough for a
mean, and most are left to calibrate with."""

LIMIT = 256 << 20
"""Bytes of float outputs that are kept; more samples are not scored."""

_QUIET = 0.01
"""Of the mean power of an output: a sample with less counts with so much, so that silence, whose
noise is divided by nearly nothing, does not decide alone."""

_SUM = 1e-3
"""How far the sum of a distribution may be from 1."""


def hold_out(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Divide the samples of a loader into those that calibrate and those that score.

    Which are which depends on their content alone, so that a loader that shuffles, or another
    seed, moves none across. Equal samples stay together.

    Returns:
        The batches that calibrate and those that score, less what is empty.

    Raises:
        ContractError: there are not two different samples.
    """
    names = batches[0].names or tuple(str(at) for at in range(len(batches[0].tensors)))
    digests = [batch_digests(batch, names) for batch in batches]
    different = sorted({digest for each in digests for digest in each})
    if len(different) < 2:
        raise ContractError(
            "the calibration loader gives no two different samples, and a score without labels "
            "needs some that do not calibrate",
            "give more samples, or define create_score_dataloader()",
        )
    chosen = set(different[: math.ceil(SHARE * len(different))])
    parts: tuple[list[Batch], list[Batch]] = ([], [])
    for batch, each in zip(batches, digests, strict=True):
        for part, is_held in zip(parts, (False, True), strict=True):
            places = [at for at, digest in enumerate(each) if (digest in chosen) == is_held]
            if places:
                part.append(batch.take(places))
    return parts


def without(batches: Sequence[Batch], others: Sequence[Batch]) -> tuple[list[Batch], int]:
    """Return what is left of some batches without the samples of others, and how many went.

    Raises:
        ContractError: nothing is left.
    """
    names = batches[0].names or tuple(str(at) for at in range(len(batches[0].tensors)))
    taken = {digest for batch in others for digest in batch_digests(batch, names)}
    left, removed = [], 0
    for batch in batches:
        places = [at for at, d in enumerate(batch_digests(batch, names)) if d not in taken]
        removed += batch.sample_count - len(places)
        if places:
            left.append(batch.take(places))
    if not left:
        raise ContractError(
            "every sample of create_score_dataloader() is a calibration sample",
            "let it yield samples that create_calib_dataloader() does not",
        )
    return left, removed


class FloatAgreement:
    """Scores graphs by how well their outputs agree with the float model's.

    Args:
        model: the float model.
        graph: of it, which runs here once.
        batches: the held-out samples.
        metric: what is to be returned of each sample.

    Attributes:
        sample_count: how many samples score.

    Raises:
        ContractError: the metric is agreement, and no output has classes; or an output is not
            finite.
    """

    def __init__(
        self, model: FloatModel, graph: Any, batches: Sequence[Batch], metric: str
    ) -> None:
        import torch

        self._device, self._metric = model.device, UnlabelledMetric(metric)
        self._batches: list[Batch] = []
        self._ranks: list[int] = []
        self._exact: list[list[Tensor]] = []
        in_memory = 0
        with torch.no_grad():
            for batch in batches:
                rows = self._run(graph, batch)
                in_memory += sum(row.nbytes for row in rows)
                if self._batches and in_memory > LIMIT:
                    break
                self._batches.append(batch)
                self._exact.append(rows)
        self.sample_count = sum(batch.sample_count for batch in self._batches)
        whole = [torch.cat(parts) for parts in zip(*self._exact, strict=True)]
        if not all(bool(output.isfinite().all()) for output in whole):
            raise ContractError(
                "the float model puts out NaN or infinite values on held-out samples",
                "see that the samples are preprocessed as in training",
            )
        self._quiet = [_QUIET * float((output**2).sum(1).mean()) for output in whole]
        vectors = [at for at, output in enumerate(whole) if output.shape[1] > 1]
        self._classes = [
            at for at in vectors if self._ranks[at] == 2 and _is_distribution(whole[at])
        ]
        if self._metric is UnlabelledMetric.AGREEMENT and not self._classes:
            # Whoever asks for it says that these are classes.
            self._classes = [at for at in vectors if self._ranks[at] == 2][:1]
            if not self._classes:
                raise ContractError(
                    f"{metric} needs an output [samples, classes], and the model has none",
                    f'set primary_metric to "{UnlabelledMetric.NOISE}"',
                )

    def __call__(self, graph: Any) -> Mapping[str, Any]:
        """Score a graph.

        Returns:
            Each metric, and ``per_sample`` of the one that was asked for.
        """
        import torch

        noise, cosine, agrees = [], [], []
        with torch.no_grad():
            for batch, exact in zip(self._batches, self._exact, strict=True):
                outputs = self._run(graph, batch)
                pairs = list(zip(outputs, exact, self._quiet, strict=True))
                noise.append(torch.stack([_noise(*pair) for pair in pairs]).mean(0))
                cosine.append(torch.stack([_cosine(*pair[:2]) for pair in pairs]).mean(0))
                if self._classes:
                    same = [outputs[at].argmax(1) == exact[at].argmax(1) for at in self._classes]
                    agrees.append(torch.stack(same).all(0).double())
        results = {
            UnlabelledMetric.NOISE: torch.cat(noise),
            UnlabelledMetric.COSINE: torch.cat(cosine),
        }
        metrics = {str(name): float(each.mean()) for name, each in results.items()}
        if agrees:
            results[UnlabelledMetric.AGREEMENT] = torch.cat(agrees)
            metrics[str(UnlabelledMetric.AGREEMENT)] = 100.0 * float(torch.cat(agrees).mean())
        per_sample = results[self._metric]
        return metrics | ({"per_sample": per_sample.tolist()} if len(per_sample) > 1 else {})

    def _run(self, graph: Any, batch: Batch) -> list[Tensor]:
        """Return each output as [samples, elements], in float64 on the CPU."""
        import torch

        try:
            outputs = run_graph(graph, batch, self._device)
        except Exception as error:
            raise ContractError(
                f"the graph does not run on held-out samples: {describe_failure(error)}",
                "let create_score_dataloader() yield what create_calib_dataloader() does",
            ) from error
        self._ranks = [output.dim() for output in outputs]
        samples = batch.sample_count
        axes = [_axis_of(output, batch) for output in outputs]
        if samples > 1 and None in axes:
            parts = [self._run(graph, sample) for sample in batch.samples()]
            return [torch.cat(rows) for rows in zip(*parts, strict=True)]
        return [
            (output if axis is None else output.movedim(axis, 0))
            .reshape(samples, -1)
            .detach()
            .to("cpu", torch.float64)
            for output, axis in zip(outputs, axes, strict=True)
        ]


def _axis_of(output: Tensor, batch: Batch) -> int | None:
    """Return the axis of an output that holds the samples; None where that is not certain."""
    for tensor, axis in zip(batch.tensors, batch.sample_axes, strict=True):
        if axis and tensor.shape == output.shape:
            return axis
    fitting = [at for at, size in enumerate(output.shape) if size == batch.sample_count]
    if fitting[:1] == [0]:
        return 0
    return fitting[0] if len(fitting) == 1 else None


def _noise(output: Tensor, exact: Tensor, quiet: float) -> Tensor:
    """Return the power of the noise over that of the signal, per sample.

    esp-ppq's torch_snr_error has the same, with 1e-7 in the place of the floor.
    """
    signal = (exact**2).sum(1).clamp_min(max(quiet, 1e-7))
    return ((output - exact) ** 2).sum(1) / signal


def _cosine(output: Tensor, exact: Tensor) -> Tensor:
    """Return the cosine per sample; of two vectors of zeros 1, of one 0."""
    import torch

    lengths = output.norm(dim=1) * exact.norm(dim=1)
    both = (output.norm(dim=1) + exact.norm(dim=1)) == 0
    cosine = (output * exact).sum(1) / lengths.where(lengths > 0, lengths + 1)
    return torch.where(both, torch.ones_like(cosine), cosine)


def _is_distribution(output: Tensor) -> bool:
    """Tell whether every row is a distribution, or the logarithm of one."""
    for values in (output, output.exp() if bool((output <= _SUM).all()) else None):
        if values is not None and bool((values >= -_SUM).all()):
            return bool(((values.sum(1) - 1).abs() <= _SUM).all())
    return False
