"""The float graph: exported or copied, simplified as esp-ppq would, and parsed."""

from __future__ import annotations

import functools
import inspect
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espdl_quantize.contract import Batch, Contract, InputSpec, read_model_file
from espdl_quantize.core import ContractError, Finding, IterationError, remedy_for
from espdl_quantize.record.files import FLOAT_MODEL

if TYPE_CHECKING:
    from espdl_quantize.ppq.misreadings import Misreading
    from espdl_quantize.ppq.normalise import Normalised, Rewrite
    from espdl_quantize.ppq.onnx_runs import Feeds

_SAMPLES = 2
"""Samples on which the rewrites of a model are verified."""


@dataclass(frozen=True)
class FloatModel:
    """The simplified float model as an ONNX file; each reader parses a graph of its own from it.

    Attributes:
        onnx_file: what esp-ppq parses.
        input_shapes: of one sample, without the axis of the batch, in the order of the graph.
        device: "cpu" or "cuda".
        batch_axes: of each input in the order of the graph, the axis that holds the samples; None
            for an input that is one for all of them. Without any, all have them first.
        rewrites: what of the model was written in other words for esp-ppq.
        findings: what could not be rewritten or verified.
    """

    onnx_file: Path
    input_shapes: list[list[int]]
    device: str
    batch_axes: tuple[int | None, ...] | None = None
    rewrites: tuple[Rewrite, ...] = ()
    findings: tuple[Finding, ...] = ()

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
            raise cannot_run(self, error) from error
        return graph

    def dummy_inputs(self, batch_size: int = 1) -> list[Any]:
        """Return one random tensor per input, drawn from a fixed seed."""
        axes = self.batch_axes or (0,) * len(self.input_shapes)
        pairs = zip(self.input_shapes, axes, strict=True)
        specs = [InputSpec(None, tuple(shape), axis) for shape, axis in pairs]
        return [each.to(self.device) for each in _random_inputs(specs, batch_size)]


def prepare_float_model(contract: Contract, folder: Path, batch: Batch | None = None) -> FloatModel:
    """Write the float model, as esp-ppq is to read it, into ``folder``.

    A torch model is exported at batch 1, as ``espdl_quantize_torch`` does, an ONNX file is read;
    it is rewritten where esp-ppq would read something else, and simplified. The user's own files
    are only read.

    Args:
        contract: whose model it is.
        folder: where the file goes.
        batch: samples on which the rewrites are verified, their names those of the inputs; None
            for random numbers.

    Raises:
        ContractError: get_torch_model() fails, or the ONNX file cannot be read or is no float
            model.
        IterationError: the model cannot be exported.
    """
    # What only compares iterations loads no onnx.
    import onnx

    from espdl_quantize.ppq.normalise import batch_size_of, normalise
    from espdl_quantize.ppq.normalise.graph import graph_inputs
    from espdl_quantize.ppq.onnx_runs import Feeds

    file = folder.resolve() / FLOAT_MODEL
    config = contract.config
    names = config.input_names or (None if batch is None else batch.names)
    if config.model_type == "torch":
        _export_torch(contract, file, names)
        source = onnx.load(str(file))
    else:
        source = _read_onnx(contract)
    if batch is None:
        axes = tuple(spec.axis for spec in config.inputs)
        batch = Batch(tuple(_random_inputs(config.inputs, _SAMPLES)), names, axes)
    order = [value.name for value in graph_inputs(source)]
    specs = config.inputs if names is None else _in_order(config.inputs, names, order)
    declared = dict(zip(order, specs, strict=False))
    feeds = Feeds.of(batch, order, batch_size_of(source, declared) or _SAMPLES)
    normalised = normalise(source, declared, feeds, convert_half=config.convert_fp16)
    if config.model_type == "torch":
        two = Feeds.of(batch, order, _SAMPLES) if batch.sample_count >= _SAMPLES else None
        normalised = _with_batches(contract, normalised, declared, two) or normalised
    onnx.save(normalised.model, str(file))
    return FloatModel(
        file,
        [list(spec.shape) for spec in specs],
        config.device,
        tuple(spec.axis for spec in specs),
        normalised.rewrites,
        normalised.findings,
    )


_UNBATCHED = "the batch of one of the export stood in a Reshape, which mixed the samples of others"


def _with_batches(
    contract: Contract, exported: Normalised, inputs: Mapping[str, InputSpec], feeds: Feeds | None
) -> Normalised | None:
    """Export a torch model again where its export at batch 1 is another model for a batch.

    Such as ``x.view(x.shape[0], -1)`` and ``x.flatten(2)`` become a Reshape to fixed sizes at batch
    1. With an open batch they become sizes that are computed, and those are folded again.

    Args:
        contract: of the model.
        exported: the export at batch 1.
        inputs: what is known of each input, in the order of the file's.
        feeds: two samples; None for random numbers.

    Returns:
        The model that takes batches; None where the first one does, or no other can be made.
    """
    import onnx

    from espdl_quantize.ppq.normalise import Rewrite, computes_shapes, normalise, takes_batches
    from espdl_quantize.ppq.onnx_runs import Feeds

    if feeds is None:
        axes = tuple(spec.axis for spec in inputs.values())
        drawn = tuple(_random_inputs(list(inputs.values()), _SAMPLES))
        feeds = Feeds.of(Batch(drawn, tuple(inputs), axes), list(inputs))
    if all(spec.axis is None for spec in inputs.values()):
        return None
    try:
        if takes_batches(exported.model, inputs, feeds):
            return None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FLOAT_MODEL
            _export_torch(contract, file, contract.config.input_names, open_batch=inputs)
            again = normalise(onnx.load(str(file)), inputs, feeds)
        if computes_shapes(again.model) and not computes_shapes(exported.model):
            return None
        if not takes_batches(again.model, inputs, feeds):
            return None
    except Exception:
        # The model is as it was, and those who run it say what that means for a batch.
        return None
    rewrite = Rewrite(
        "batch", tuple(output.name for output in again.model.graph.output), _UNBATCHED
    )
    return replace(again, rewrites=(rewrite, *again.rewrites))


def _in_order(
    inputs: Sequence[InputSpec], names: Sequence[str], order: Sequence[str]
) -> Sequence[InputSpec]:
    """Return named inputs in the order of a file's, where they are the same ones."""
    by_name = dict(zip(names, inputs, strict=False))
    return [by_name[name] for name in order] if set(order) == set(by_name) else inputs


def _random_inputs(specs: Sequence[InputSpec], count: int) -> list[Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return [torch.randn(spec.batched(count), generator=generator) for spec in specs]


def cannot_run(model: FloatModel, error: BaseException) -> IterationError:
    """Return what is said where esp-ppq cannot run a float model: the op, the reason, the remedy.

    Args:
        model: the float model.
        error: what its parser or its executor raised.
    """
    op = _op_at(error)
    if op is None:
        return IterationError(
            f"esp-ppq cannot read the float model: {describe_failure(error)}",
            remedy_for(error)
            or "see what stands out in the file: an output that no op writes, or no op at all",
        )
    reason, where = _first_line(_root(error)), f"op {op.name!r} ({op.type})"
    if "has no backend implementation" in reason:
        return IterationError(f"esp-ppq has no {op.type}: it is {where}", remedy_for(error))
    misread = _misreading(model, op)
    if misread is not None:
        return IterationError(
            f"esp-ppq cannot run {where} with {misread.what}: {reason}", misread.remedy
        )
    return IterationError(
        f"esp-ppq cannot run {where}: {reason}",
        remedy_for(error)
        or "run the model in onnxruntime on a batch of input_shape: where that fails, too, the "
        f"model or input_shape is wrong; else write the {op.type} in another way",
    )


def _op_at(error: BaseException) -> Any:
    """Return the op that esp-ppq's executor was at; None where it was at none."""
    from esp_ppq.IR import Operation

    trace, op = error.__traceback__, None
    while trace is not None:
        found = trace.tb_frame.f_locals.get("operation")
        if isinstance(found, Operation):
            op = found
        trace = trace.tb_next
    return op


def _misreading(model: FloatModel, op: Any) -> Misreading | None:
    import onnx

    from espdl_quantize.ppq.misreadings import misreading_of
    from espdl_quantize.ppq.normalise.graph import Graph

    graph = Graph(onnx.load(str(model.onnx_file)))
    node = next((node for node in graph.nodes if node.name == op.name), None)
    if node is None or not node.input:
        return None
    return misreading_of(node, len(graph.shape(node.input[0]) or ()))


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
        found = f"the class {model.__name__}" if isinstance(model, type) else None
        raise ContractError(
            f"get_torch_model() returned {found or f'a {type(model).__name__}'}, expected a "
            "torch.nn.Module",
            _hint_no_module(model),
        )
    if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        # They spread a batch over devices, and torch exports the network that they hold alone.
        model = model.module
    packed = [
        name for name, part in model.named_modules() if ".quantized." in type(part).__module__
    ]
    if packed:
        raise ContractError(
            f"get_torch_model() returned a model that torch has quantized already ({packed[0]})",
            "return the float model that it was made of: what is searched is how to quantize that",
        )
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise ContractError(
            f"get_torch_model() returned a model in training mode ({training[0]})",
            "return model.eval()",
        )
    try:
        with contract.entered():
            return model.to(contract.config.device)
    except Exception as error:
        raise ContractError(
            f"the model of get_torch_model() cannot be put on {contract.config.device!r}: "
            f"{describe_failure(error)}",
            remedy_for(error) or "see that it is whole, and that the device has room for it",
        ) from error


def _hint_no_module(returned: Any) -> str:
    """Say how a module comes of what was returned in its place."""
    import torch

    if isinstance(returned, type):
        return f"make one of it and load its weights: {returned.__name__}().eval()"
    values = list(returned.values()) if isinstance(returned, Mapping) else []
    if values and all(isinstance(value, torch.Tensor) for value in values):
        return "these are weights: build the network and give them to its load_state_dict()"
    if any(isinstance(value, torch.nn.Module) for value in values):
        key = next(key for key, value in returned.items() if isinstance(value, torch.nn.Module))
        return f"return what is in it: [{key!r}].eval()"
    return "return the model itself"


def _export_torch(
    contract: Contract,
    file: Path,
    names: Sequence[str] | None,
    open_batch: Mapping[str, InputSpec] | None = None,
) -> None:
    """Export at batch 1; with ``open_batch``, the inputs in the file's order, at any."""
    import torch

    from espdl_quantize.ppq.normalise import OPSET

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
    if open_batch is not None:
        axes = {
            name: {spec.axis: "batch"} for name, spec in open_batch.items() if spec.axis is not None
        }
        export = functools.partial(export, input_names=list(open_batch), dynamic_axes=axes)
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
            remedy_for(error) or _hint_export(model),
        ) from error


def _hint_export(model: Any) -> str:
    from torch.nn.utils.parametrize import is_parametrized

    named = [name for name, part in model.named_modules() if is_parametrized(part)]
    if named:
        return (
            f"the weights of {named[0]!r} are computed at each call: write them out by "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        )
    return "fix the model, or export it yourself and use model_type 'onnx'"


def _read_onnx(contract: Contract) -> Any:
    import onnx

    try:
        return onnx.load(str(contract.onnx_path))
    except OSError:
        raise
    except Exception as error:
        # It names files of other formats by what they are.
        read_model_file(contract.onnx_path)
        # It names files of other formats by what they are.
        read_model_file(contract.onnx_path)
        raise ContractError(
            f"{contract.onnx_path} is no readable ONNX model: {describe_failure(error)}",
            "export or download it again",
        ) from error


def describe_failure(error: BaseException) -> str:
    """Say in one line what went wrong: the outermost message and its root cause."""
    root = _root(error)
    text = f"{type(error).__name__}: {_first_line(error)}"
    return text if root is error else f"{text} ({type(root).__name__}: {_first_line(root)})"


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
