"""What is kept of the tensors of a forward for the graphwise analysis and the statistics."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import torch
from esp_ppq.quantization.analyse.util import MeasureRecorder
from esp_ppq.quantization.measure import torch_snr_error
from torch import Tensor

from espdl_quantize.ppq.measure._measurements import Row
from espdl_quantize.ppq.measure.plan import Plan

_SEED = 10086
"""Of esp-ppq's recorders."""


@functools.cache
def _sequence(count: int) -> Tensor:
    """Return the random sequence behind ``esp_ppq.utils.fetch.generate_indexer``."""
    found, seed = [], _SEED
    for _ in range(count):
        found.append(seed)
        seed = (0x343FD * seed + 0x269EC3) % (2 << 31)
    return torch.tensor(found)


@functools.lru_cache(maxsize=1024)
def _indices(count: int, elements: int, device: str) -> Tensor:
    return (_sequence(count) % elements).to(device)


@functools.lru_cache(maxsize=1024)
def _places(count: int, shape: tuple[int, ...]) -> Tensor:
    """Return where the elements lie in an image [channels, height, width] with channels last, or
    in several of these."""
    channels, size = shape[-3], math.prod(shape[-2:])
    indices = _sequence(count) % math.prod(shape)
    image, rest = indices // (channels * size), indices % (channels * size)
    return (image * size + rest % size) * channels + rest // size


def _has_channels_last(tensor: Tensor) -> bool:
    if tensor.dim() != 4 or tensor.is_contiguous() or tensor.is_cuda:
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def sample(tensor: Tensor, count: int) -> Tensor:
    """Do as ``tensor_random_fetch``: return ``[count]`` elements of a tensor."""
    if _has_channels_last(tensor):
        flat = tensor.permute(0, 2, 3, 1).reshape(-1)
        return flat.index_select(0, _places(count, tuple(tensor.shape)))
    flat = tensor.flatten()
    return flat.index_select(0, _indices(count, flat.numel(), str(tensor.device)))


def sample_each(tensor: Tensor, count: int) -> Tensor:
    """Do as ``batch_random_fetch``: return ``[batch, count]``, the same elements of each sample."""
    if _has_channels_last(tensor):
        flat = tensor.permute(0, 2, 3, 1).flatten(start_dim=1)
        return flat.index_select(-1, _places(count, tuple(tensor.shape[1:])))
    flat = tensor.flatten(start_dim=1)
    return flat.index_select(-1, _indices(count, flat.shape[-1], str(tensor.device)))


_OUTPUT_SAMPLES = 4096
"""Elements of each sample of an op's output that the graphwise analysis compares."""

_STATISTICS_SAMPLES = 1024
"""Elements of each tensor and batch that the statistics are of."""


class Records:
    """Elements of the tensors of one float forward per batch.

    Attributes:
        outputs: by computing op, one output per batch, or what is looked at of it where that is
            less.
        tensors: by op, "input" or "output", and place, the elements that statistics are of.
    """

    def __init__(self, plan: Plan) -> None:
        self._watched = {op.name for op in plan.watched}
        self.outputs: dict[str, list[Tensor]] = {op.name: [] for op in plan.computing}
        self.tensors: dict[tuple[str, str, int], list[Tensor]] = {}

    def see(self, op: Any, kind: str, values: list[Any]) -> None:
        """Keep what the analyses look at of an op's inputs or outputs."""
        if op.name in self._watched:
            for place, value in enumerate(values):
                if value is not None and value.dtype.is_floating_point and value.numel() > 0:
                    taken = sample(value, _STATISTICS_SAMPLES).cpu()
                    self.tensors.setdefault((op.name, kind, place), []).append(taken)
        if kind == "output" and op.name in self.outputs:
            self._see_output(op, values[0])

    def _see_output(self, op: Any, value: Tensor) -> None:
        is_small = value.dim() > 0 and value[0].numel() <= _OUTPUT_SAMPLES
        kept = value if is_small else sample_each(value, _OUTPUT_SAMPLES)
        self.outputs[op.name].append(kept.cpu())


class Comparison(Records):
    """The same of the quantized forwards, whose outputs are compared as they come.

    Args:
        plan: of the graph.
        exact: of the float forwards; what has been compared is dropped from it.
    """

    def __init__(self, plan: Plan, exact: Records) -> None:
        super().__init__(plan)
        self._exact = exact
        self._recorders = {op.name: MeasureRecorder("snr") for op in plan.computing}

    def _see_output(self, op: Any, value: Tensor) -> None:
        real = self._exact.outputs[op.name].pop(0)
        if real.shape == value.shape:
            real = sample_each(real, _OUTPUT_SAMPLES)
        found = sample_each(value, _OUTPUT_SAMPLES).cpu()
        self._recorders[op.name].update(y_pred=found, y_real=real)

    def graphwise(self) -> dict[str, float]:
        """Return the mean noise power over signal power of every computing op's output."""
        return {name: float(recorder.measure) for name, recorder in self._recorders.items()}

    def pairs(self, plan: Plan) -> Iterable[tuple[Any, ...]]:
        """Yield (op, variable, float elements, quantized ones) of all that statistics are of."""
        for op in plan.watched:
            for kind, variables in (("input", op.inputs), ("output", op.outputs)):
                for place, variable in enumerate(variables):
                    before = self._exact.tensors.get((op.name, kind, place))
                    after = self.tensors.get((op.name, kind, place))
                    if before and after:
                        yield op, variable, torch.cat(before), torch.cat(after)


_BINS = 32


def statistics_row(op: Any, variable: Any, float_values: Tensor, quantized: Tensor) -> Row:
    """Describe a variable by the same elements in the float and in the quantized graph.

    Args:
        op: the op that reads or writes the variable.
        variable: the variable.
        float_values: ``[count]`` elements.
        quantized: the same elements after quantization.
    """
    row: Row = {
        "Op name": op.name,
        "Op type": op.type,
        "Is parameter": variable.is_parameter,
        "Is input": variable in op.inputs,
        "Is output": variable in op.outputs,
        "Variable name": variable.name,
        "Noise:Signal Power Ratio": torch_snr_error(quantized, float_values).item(),
    }
    for name, values in (
        ("Noise", quantized - float_values),
        ("Quantized", quantized),
        ("Float", float_values),
    ):
        row |= {f"{name} {key}": value for key, value in _moments(values).items()}
    return row


def _moments(values: Tensor) -> dict[str, Any]:
    mean, deviation = values.mean().item(), values.std().item()
    low, high = values.min().item(), values.max().item()
    normal = (values - mean) / deviation
    return {
        "Mean": mean,
        "Std": deviation,
        "Skewness": torch.pow(normal, 3).mean().item(),
        "Kurtosis": (torch.pow(normal, 4).mean() - 3).item(),
        "Hist": torch.histc(values, bins=_BINS, min=low, max=high).cpu().tolist(),
        "Max": high,
        "Min": low,
    }
