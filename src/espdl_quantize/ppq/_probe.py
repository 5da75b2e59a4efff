"""Runs the model once as calibration will, and once as the chip will, before anything long."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from espdl_quantize.contract import Batch, Contract, forward_contradiction
from espdl_quantize.core import ContractError, remedy_for
from espdl_quantize.ppq._graph import FloatModel, describe_failure, load_torch_model
from espdl_quantize.ppq.torch_module import run_module


def probe_torch_model(contract: Contract, batch: Batch) -> None:
    """Run the torch model on one calibration batch and on a batch of one.

    Raises:
        ContractError: the model raises on either.
    """
    model = load_torch_model(contract)
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        # A traced module has none.
        signature = None
    wrong = signature and forward_contradiction(signature, batch.names, len(batch.tensors))
    if wrong:
        raise ContractError(wrong.message, wrong.hint)
    for inputs, name in ((batch, "one calibration batch"), (batch.first(1), "a batch of 1")):
        try:
            run_module(contract, model, inputs)
        except Exception as error:
            is_of_size = inputs.sample_count > 1 and _runs_alone(contract, model, batch)
            raise ContractError(
                f"the torch model fails on {name}: {describe_failure(error)}",
                _hint_torch(model, inputs, error, is_of_size=is_of_size),
            ) from error


def _runs_alone(contract: Contract, model: Any, batch: Batch) -> bool:
    """Tell whether a model that fails on a batch runs on a single sample."""
    try:
        run_module(contract, model, batch.first(1))
    except Exception:
        return False
    return True


def _hint_torch(model: Any, inputs: Batch, error: BaseException, *, is_of_size: bool) -> str:
    """Say what is most likely wrong: numbers of another type, or a batch size that is built in."""
    first = inputs.tensors[0]
    weight = next(iter(model.parameters()), None)
    if weight is not None and first.dtype.is_floating_point and first.dtype != weight.dtype:
        return (
            f"the batch is {first.dtype}, the model {weight.dtype}, and esp-ppq works in "
            "torch.float32: let get_torch_model() return model.float()"
        )
    return remedy_for(error) or (
        "the model must take any batch size: the export runs at batch 1, calibration at batch_size"
        if is_of_size
        else "see that the loader gives what forward() takes"
    )


def probe_float_model(model: FloatModel, batch: Batch) -> Any:
    """Run the exported graph in esp-ppq's executor, on one calibration batch and a batch of one.

    Returns:
        The graph, which has run.

    Raises:
        IterationError: esp-ppq cannot run an op at all.
        ContractError: the graph runs at batch 1 and not on a calibration batch: it has the batch
            size baked in.
    """
    from esp_ppq.executor import TorchExecutor

    graph = model.load()
    executor = TorchExecutor(graph=graph, device=model.device)
    try:
        executor.forward(inputs=batch.first(1).as_esp_ppq())
    except Exception as error:
        raise ContractError(
            f"the exported graph does not run on a calibration sample: {describe_failure(error)}",
            remedy_for(error)
            or "see that the calibration samples have the types and shapes that the model takes",
        ) from error
    try:
        executor.forward(inputs=batch.as_esp_ppq())
    except Exception as error:
        count = batch.sample_count
        raise ContractError(
            f"the exported graph runs on one calibration sample, and not on a batch of {count}: "
            f"{describe_failure(error)}",
            # One sample runs: whatever the op says, it is the number of them.
            _hint_baked(error),
        ) from error
    return graph


def forwards(graph: Any, batches: Iterable[Batch], device: str) -> Iterator[list[Any]]:
    """Run a graph, float or quantized, on batch after batch.

    Args:
        graph: of esp-ppq.
        batches: their tensors are moved to ``device``.
        device: where the graph's own tensors lie.

    Yields:
        The output tensors of each batch, in the graph's order.
    """
    from esp_ppq.executor import TorchExecutor

    executor = TorchExecutor(graph=graph, device=device)
    for batch in batches:
        moved = Batch(tuple(tensor.to(device) for tensor in batch.tensors), batch.names)
        yield executor.forward(inputs=moved.as_esp_ppq())


def _hint_baked(error: BaseException) -> str:
    """Say how to keep the batch size of the export out of the op that holds it."""
    if "(Type: Resize," in str(error):
        return (
            "the Resize has the size of its whole output fixed, the batch among it: give it "
            "scales, e.g. nn.Upsample(scale_factor=2), or calibrate with batch_size 1"
        )
    return (
        "the graph has the batch size 1 of the export baked in: write reshapes with -1 for the "
        "batch, e.g. x.flatten(1) or x.reshape(-1, c, h, w); where the reshape is not yours "
        "(onnxsim adds them around a Linear on 3-D inputs), calibrate with batch_size 1"
    )


def run_forward(model: FloatModel, graph: Any, batch: Batch) -> None:
    """Run a float graph on a batch, for the time that it takes."""
    from esp_ppq.executor import TorchExecutor

    TorchExecutor(graph=graph, device=model.device).forward(inputs=batch.as_esp_ppq())
