"""The float graph: exported or copied, simplified as esp-ppq would, and parsed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Batch, Contract, InputSpec, read_model_file
from espdl_quantize.core import ContractError, IterationError, remedy_for
from espdl_quantize.record.files import FLOAT_MODEL

OPSET = 18
"""The opset that esp_ppq.api.espdl_quantize_torch exports with."""


@dataclass(frozen=True)
class FloatModel:
    """The simplified float model as an ONNX file; each reader parses a graph of its own from it.

    Attributes:
        onnx_file: the file.
        input_shapes: of one sample, without the axis of the batch, in the order of the graph.
        device: "cpu" or "cuda".
        batch_axes: of each input in the order of the graph, the axis that holds the samples; None
            for an input that is one for all of them. Without any, all have them first.
    """

    onnx_file: Path
    input_shapes: list[list[int]]
    device: str
    batch_axes: tuple[int | None, ...] | None = None

    def load(self) -> Any:
        """Parse a fresh esp-ppq ``BaseGraph``, with the shapes of a batch of one traced into it.

        Raises:
            IterationError: esp-ppq cannot parse or run an op; it is named.
        """
        from esp_ppq.executor import TorchExecutor

        try:
            graph = parse_onnx(self.onnx_file)
            executor = TorchExecutor(graph=graph, device=self.device)
            executor.tracing_operation_meta(inputs=self.dummy_inputs())
        except Exception as error:
            raise IterationError(
                f"esp-ppq cannot run the float model: {describe_failure(error)}",
                remedy_for(error)
                or "run the model in onnxruntime on a batch of input_shape: where that fails, too, "
                "the model or input_shape is wrong; else esp-ppq cannot run that op as it is",
            ) from error
        return graph

    def dummy_inputs(self, batch_size: int = 1) -> list[Any]:
        """Return one random tensor per input, drawn from a fixed seed."""
        import torch

        generator = torch.Generator().manual_seed(0)
        axes = self.batch_axes or (0,) * len(self.input_shapes)
        return [
            torch.randn(
                InputSpec(None, tuple(shape), axis).batched(batch_size), generator=generator
            ).to(self.device)
            for shape, axis in zip(self.input_shapes, axes, strict=True)
        ]


def prepare_float_model(
    contract: Contract, folder: Path, names: Sequence[str] | None = None
) -> FloatModel:
    """Write the simplified float model into ``folder``; the user's own files are only read.

    The steps are those of ``espdl_quantize_torch`` and ``espdl_quantize_onnx``: a torch model is
    exported at batch 1, an ONNX file is copied, and the copy is simplified.

    Args:
        contract: whose model it is.
        folder: where the file goes.
        names: of the inputs, where the batches have names; in the order of input_shape.

    Raises:
        ContractError: get_torch_model() fails, or the ONNX file cannot be read.
        IterationError: the model cannot be exported or simplified.
    """
    file = folder.resolve() / FLOAT_MODEL
    config = contract.config
    names = config.input_names or names
    if config.model_type == "torch":
        _export_torch(contract, file, names)
    else:
        _copy_onnx(contract, file)
    _simplify(file)
    inputs = config.inputs if names is None else _in_order(config.inputs, names, file)
    shapes = [list(spec.shape) for spec in inputs]
    return FloatModel(file, shapes, config.device, tuple(spec.axis for spec in inputs))


def _in_order(inputs: Sequence[InputSpec], names: Sequence[str], file: Path) -> Sequence[InputSpec]:
    """Return named inputs in the order of a file's, where they are the same ones."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    constants = {constant.name for constant in graph.initializer}
    order = [each.name for each in graph.input if each.name not in constants]
    by_name = dict(zip(names, inputs, strict=False))
    return [by_name[name] for name in order] if set(order) == set(by_name) else inputs


def parse_onnx(file: Path) -> Any:
    """Parse an ONNX file as esp-ppq's ``load_onnx_graph`` does, with a fixed order of variables.

    esp-ppq's parser creates the variables from a Python set, so that their order, the names that
    it generates and the bytes that it exports change from process to process. They are ordered by
    their first use here, between parsing and formatting.
    """
    from esp_ppq.api.interface import format_graph, load_graph

    graph = load_graph(str(file))
    first_use = dict.fromkeys(
        variable.name for op in graph.operations.values() for variable in (*op.inputs, *op.outputs)
    )
    found = dict(graph.variables)
    graph.variables.clear()
    for name in (*first_use, *found):
        graph.variables[name] = found[name]
    return format_graph(graph)


def run_graph(
    graph: Any, inputs: Batch, device: str, output_names: Sequence[str] | None = None
) -> list[Any]:
    """Run a graph by esp-ppq's executor, as the engine at work computes it.

    Args:
        graph: an esp-ppq ``BaseGraph``.
        inputs: one batch.
        device: "cpu" or "cuda".
        output_names: variables to return; None for the graph's outputs.
    """
    from esp_ppq.executor import TorchExecutor

    names = None if output_names is None else list(output_names)
    outputs: list[Any] = TorchExecutor(graph=graph, device=device).forward(
        inputs.as_esp_ppq(), output_names=names
    )
    return outputs


def load_torch_model(contract: Contract) -> Any:
    """Return the user's torch model on the contract's device.

    Raises:
        ContractError: get_torch_model() raises, or returns no nn.Module in eval mode.
    """
    import torch

    try:
        model = contract.call("get_torch_model")
    except Exception as error:
        raise ContractError(
            f"get_torch_model() raised {type(error).__name__}: {error}",
            remedy_for(error) or "fix it; it must return the trained model in eval mode",
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise ContractError(
            f"get_torch_model() returned a {type(model).__name__}, expected a torch.nn.Module",
            "return the model itself",
        )
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise ContractError(
            f"get_torch_model() returned a model in training mode ({training[0]})",
            "return model.eval()",
        )
    with contract.entered():
        return model.to(contract.config.device)


def _export_torch(contract: Contract, file: Path, names: Sequence[str] | None) -> None:
    import torch

    model = load_torch_model(contract)
    config = contract.config
    inputs: tuple[Any, ...] = tuple(
        torch.zeros(spec.batched(1), device=config.device) for spec in config.inputs
    )
    export = functools.partial(
        torch.onnx.export, opset_version=OPSET, do_constant_folding=True, verbose=False
    )
    if names is not None and len(names) == len(inputs):
        # The exporter takes a dict that comes last for arguments by name, and puts them in the
        # order of forward's parameters.
        by_name = dict(zip(names, inputs, strict=True))
        parameters = inspect.signature(model.forward).parameters
        ordered = [name for name in parameters if name in by_name]
        inputs = (by_name,)
        export = functools.partial(export, input_names=ordered)
    # Torch's newer exporter renames ops and is not what esp-ppq uses; older versions lack the flag.
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        export = functools.partial(export, dynamo=False)
    try:
        # The model's forward is the contract's code.
        with contract.entered():
            export(model, inputs, str(file))
    except Exception as error:
        raise IterationError(
            f"torch cannot export the model to ONNX: {describe_failure(error)}",
            remedy_for(error) or "fix the model, or export it yourself and use model_type 'onnx'",
        ) from error


def _copy_onnx(contract: Contract, file: Path) -> None:
    import onnx

    try:
        onnx.save(onnx.load(str(contract.onnx_path)), str(file))
    except OSError:
        raise
    except Exception as error:
        # It names files of other formats by what they are.
        read_model_file(contract.onnx_path)
        raise ContractError(
            f"{contract.onnx_path} is no readable ONNX model: {describe_failure(error)}",
            "export or download it again",
        ) from error


def _simplify(file: Path) -> None:
    import onnx
    from onnxsim import simplify

    try:
        simplified, equal = simplify(onnx.load(str(file)))
    except RuntimeError as error:
        # esp-ppq goes on without simplifying in this one case, and so do we: its parser may know
        # the op although onnxsim does not.
        if "No Op registered for" in str(error):
            return
        raise IterationError(
            f"onnxsim cannot simplify the model: {describe_failure(error)}",
            "check the model with onnx.checker.check_model",
        ) from error
    if equal:
        onnx.save(simplified, str(file))


def describe_failure(error: BaseException) -> str:
    """Say in one line what went wrong: the outermost message and its root cause."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    text = f"{type(error).__name__}: {_first_line(error)}"
    return text if root is error else f"{text} ({type(root).__name__}: {_first_line(root)})"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
