"""Recorded inputs and outputs, with which the chip itself can be asked: ``model->test()``.

ESP-DL runs the recorded inputs and compares: int8 and float outputs must be equal, int16 outputs
may differ by one step (``Model::test`` of ESP-DL 3.3.9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espdl_quantize.chip import (
    ChipModel,
    Tensor,
    UnreadableModelError,
    chip_facts,
    read_model,
)
from espdl_quantize.contract import Batch, spread_samples

RecordedValues = Mapping[str, Mapping[str, Any]]
"""Tensors by name, under "inputs" and "outputs"; in the axes of the graph, not of the file."""


def simulate(graph: Any, sample: Batch, device: str) -> RecordedValues:
    """Return a sample and what the quantized graph makes of it.

    Args:
        graph: the quantized ``BaseGraph``.
        sample: a batch of one.
        device: where the simulation runs.
    """
    import torch

    from espdl_quantize.ppq import run_graph

    inputs = sample.by_name(list(graph.inputs))
    with torch.no_grad():
        outputs = run_graph(graph, sample, device)
    return {
        "inputs": {name: tensor.to(device) for name, tensor in inputs.items()},
        "outputs": dict(zip(graph.outputs, outputs, strict=True)),
    }


_CANDIDATES = 4
"""Samples that are tried: each is one forward pass more before an export."""


def choose(
    graph: Any, batches: Sequence[Batch], device: str
) -> tuple[Batch, RecordedValues] | None:
    """Return the calibration sample that exercises a model most, and what comes of it.

    A blank image or a state of zeros passes the test on nearly any board. So of some samples from
    all over the calibration data the one is taken whose least varied tensor, input or output, has
    the most different values; of equals, the first.

    Args:
        graph: the quantized ``BaseGraph``.
        batches: calibration batches.
        device: where the simulation runs.

    Returns:
        None where there is no sample.
    """
    tried = [
        (sample, simulate(graph, sample, device)) for sample in spread_samples(batches, _CANDIDATES)
    ]
    return max(tried, key=lambda each: variety(each[1]), default=None)


def variety(values: RecordedValues) -> tuple[float, float]:
    """Return how varied recorded values are: the least varied tensor, and all together.

    A tensor counts by the share of its numbers that are different ones, of at most the 256 that an
    int8 has; the same one everywhere is no variety, nor is what is not finite.
    """
    shares = [
        _share_of_different(tensor)
        for kind in ("inputs", "outputs")
        for tensor in values[kind].values()
        if tensor is not None and tensor.numel() > 1
    ]
    return min(shares, default=0.0), sum(shares)


def _share_of_different(tensor: Any) -> float:
    different = int(tensor[tensor.isfinite()].unique().numel())
    return max(different - 1, 0) / (min(int(tensor.numel()), 256) - 1)


def problem_of(
    model: ChipModel,
    file: Path,
    values: RecordedValues,
    layouts: Mapping[str, tuple[int, ...]],
    chip: str,
) -> str:
    """Hold a file with test values against the model that it is a copy of.

    Args:
        model: what the deployed file holds.
        file: the copy with test values.
        values: what was to be recorded.
        layouts: by variable, the axes of the graph's tensor in the order of the file.
        chip: its rounding decides the integers.

    Returns:
        What is wrong with the copy; empty where it is the same model and records these values.
    """
    if not file.is_file():
        return "esp-ppq could not record them; console.log has the whole trace"
    try:
        copy = read_model(file)
    except UnreadableModelError as error:
        return f"{file.name} cannot be read back: {error.cause}"
    if not _is_same_model(model, copy):
        return f"{file.name} holds another model than the exported one"
    for kind, names, recorded in (
        ("inputs", model.inputs, copy.test_inputs),
        ("outputs", model.outputs, copy.test_outputs),
    ):
        if set(names) != set(recorded):
            return f"{file.name} records the {kind} {sorted(recorded)}, not {sorted(names)}"
        for name in names:
            problem = _difference(model.values[name], recorded[name])
            if problem:
                return f"{file.name}: {kind} {name!r} {problem}"
            expected = _as_in_file(
                values[kind][name], layouts.get(name), model.values[name], chip_facts(chip).rounding
            )
            data = recorded[name].data
            if data is None or data.tolist() != expected:
                return f"{file.name}: the recorded {name!r} is not what the simulation gives"
    return ""


def _is_same_model(model: ChipModel, copy: ChipModel) -> bool:
    return (
        [(node.name, node.op_type, node.inputs, node.outputs) for node in model.nodes]
        == [(node.name, node.op_type, node.inputs, node.outputs) for node in copy.nodes]
        and model.values == copy.values
        and model.constants.keys() == copy.constants.keys()
        and all(
            _is_same(constant, copy.constants[name]) for name, constant in model.constants.items()
        )
    )


def _is_same(tensor: Tensor, other: Tensor) -> bool:
    if (tensor.dtype, tensor.shape, tensor.exponents) != (
        other.dtype,
        other.shape,
        other.exponents,
    ):
        return False
    if tensor.data is None or other.data is None:
        return tensor.data is other.data
    return bool(tensor.data.tobytes() == other.data.tobytes())


def _difference(tensor: Tensor, recorded: Tensor) -> str:
    """Name what ESP-DL's comparison looks at before the numbers."""
    if recorded.dtype != tensor.dtype:
        return f"is recorded as {recorded.dtype}, the model has {tensor.dtype}"
    # A scalar has no shape in the file; it is recorded as one number.
    if tensor.shape and recorded.shape != tensor.shape:
        return f"is recorded with the shape {recorded.shape}, the model has {tensor.shape}"
    if tensor.is_integer and recorded.exponents != tensor.exponents:
        return f"is recorded with the exponents {recorded.exponents}, not {tensor.exponents}"
    return ""


def _as_in_file(
    value: Any, axes: tuple[int, ...] | None, tensor: Tensor, rounding: Any
) -> list[Any]:
    from espdl_quantize.chip.integers import to_integers

    value = value.detach().cpu()
    if axes is not None and len(axes) == value.dim():
        value = value.permute(axes)
    if tensor.is_integer:
        value = to_integers(value, tensor.exponent, tensor.dtype, rounding)
    numbers: list[Any] = value.reshape(-1).tolist()
    return numbers
