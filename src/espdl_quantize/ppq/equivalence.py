"""Compares the float graph, as esp-ppq reads it, with the user's own model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from espdl_quantize.contract import Batch, Contract, InputSpec
from espdl_quantize.core import ContractError, Finding, FindingKind, Hint, Option
from espdl_quantize.ppq._graph import FloatModel, describe_failure, load_torch_model, run_graph
from espdl_quantize.ppq.misreadings import in_training, misreading_of
from espdl_quantize.ppq.normalise import batch_size_of, widen
from espdl_quantize.ppq.normalise.graph import Graph, graph_inputs
from espdl_quantize.ppq.onnx_runs import Feeds, OnnxRun, mixes_samples, relative_error
from espdl_quantize.ppq.torch_module import (
    SAME,
    hold_to_one_model,
    hold_to_single_samples,
    run_module,
)

LIMIT = 1e-3
"""Relative error of an output from which on it is not the user's model that would be scored.
Float32 sums in another order differ by about 1e-6, deep networks by 1e-5."""

SAMPLES = 16
"""Samples that are compared."""


@dataclass(frozen=True)
class Equivalence:
    """How far the graph that is quantized is from the user's model.

    Attributes:
        errors: the relative error of each output, by its name in the graph; empty where they could
            not be compared.
        findings: the faults, and what could not be compared.
        op: the first op that computes something else; empty where there is none.
    """

    errors: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    op: str = ""

    @property
    def largest(self) -> float | None:
        """The largest error of an output; None where none could be compared."""
        return max(self.errors.values(), default=None)

    @property
    def faults(self) -> list[Finding]:
        """The findings that are faults."""
        return [finding for finding in self.findings if finding.is_fault]


def compare_with_source(
    contract: Contract, model: FloatModel, graph: Any, batch: Batch
) -> Equivalence:
    """Run the user's model and the float graph on the first samples of a batch, and compare them.

    Args:
        contract: whose model is the reference: the torch module, or the ONNX file in onnxruntime.
        model: the float model.
        graph: the same, parsed.
        batch: samples of the calibration loader.

    Raises:
        ContractError: the torch module cannot be run, or is another one at each call.
    """
    inputs = batch.first(SAMPLES)
    trained = in_training(onnx.load(str(model.onnx_file), load_external_data=False))
    if trained is not None:
        return Equivalence(findings=(trained,), op=trained.figures["op"])
    unlike: list[Finding] = []
    try:
        reference = _Reference.of(contract, model)
        wanted = reference(inputs)
    except ContractError:
        raise
    except Exception as error:
        try:
            reference = _Reference.of_rewritten(contract, model)
            wanted = reference(inputs)
        except Exception:
            return Equivalence(findings=(_not_compared(error),))
        unlike = [_not_compared(error, rewritten=True)]
    names = list(graph.outputs)
    outputs = [_array(each) for each in run_graph(graph, inputs, model.device)]
    compared = _compared(
        contract, reference, model, graph, inputs, dict(zip(names, outputs, strict=True)), wanted
    )
    return replace(compared, findings=(*unlike, *compared.findings))


def _compared(
    contract: Contract,
    reference: _Reference,
    model: FloatModel,
    graph: Any,
    inputs: Batch,
    outputs: dict[str, Any],
    wanted: list[list[Any]],
) -> Equivalence:
    if any(len(part) != len(outputs) for part in wanted):
        return Equivalence(findings=(_other_outputs(wanted[0], outputs),))
    joined = [
        _joined([part[place] for part in wanted], value)
        for place, value in enumerate(outputs.values())
    ]
    errors = {
        name: relative_error(value, theirs)
        for (name, value), theirs in zip(outputs.items(), joined, strict=True)
    }
    findings = list(_not_finite(outputs, joined))
    # What is infinite or no number in the model itself differs from everything, itself included.
    wrong = {
        name: error
        for (name, error), theirs in zip(errors.items(), joined, strict=True)
        if not error <= LIMIT and (theirs.dtype.kind != "f" or np.isfinite(theirs).all())
    }
    if findings and not wrong:
        return Equivalence(
            {name: error for name, error in errors.items() if error <= LIMIT}, tuple(findings)
        )
    if reference.module is not None or wrong:
        again = reference(inputs)
        other = [
            name
            for ours, theirs in zip(again, wanted, strict=True)
            for name, second, first in zip(outputs, ours, theirs, strict=True)
            if relative_error(second, first) > SAME
        ]
        if other:
            return Equivalence(findings=(*findings, _not_deterministic(other[0])))
    if not wrong:
        if reference.module is not None:
            hold_to_single_samples(contract, reference.module, inputs, wanted[0])
        return Equivalence(errors, tuple(findings))
    if reference.module is not None:
        hold_to_one_model(contract, reference.module, inputs, wanted[0])
    place = _first_difference(model, graph, _worst_sample(inputs, outputs, joined))
    is_of_batch = place is None and _agrees_alone(graph, inputs, model.device, joined, wanted)
    findings += _mismatch(wrong, place, reference, is_of_batch=is_of_batch)
    return Equivalence(errors, tuple(findings), place.op if place else "")


def _agrees_alone(
    graph: Any, inputs: Batch, device: str, wanted: Sequence[Any], parts: Sequence[Sequence[Any]]
) -> bool:
    """Tell whether single samples give what the user's model gives for them in a batch.

    Args:
        graph: esp-ppq's.
        inputs: samples.
        device: of the graph.
        wanted: the outputs of the user's model for all of them.
        parts: the same as they were computed; it may take single samples alone.
    """
    count = inputs.sample_count
    for place in range(min(count, 4) if count > 1 else 0):
        outputs = run_graph(graph, inputs.take([place]), device)
        if len(parts) == count:
            pairs = zip(outputs, parts[place], strict=True)
            if any(relative_error(_array(value), theirs) > LIMIT for value, theirs in pairs):
                return False
            continue
        if not all(
            any(
                relative_error(_array(value), theirs.take([place], axis=axis)) <= LIMIT
                for axis in range(theirs.ndim)
                if theirs.shape[axis] == count
            )
            for value, theirs in zip(outputs, wanted, strict=True)
        ):
            return False
    return count > 1


@dataclass(frozen=True)
class _Reference:
    """The user's model; it returns its outputs for each part of a batch that it takes at once."""

    what: str
    module: Any = None
    contract: Contract | None = None
    run: OnnxRun | None = None
    part: int | None = None

    @classmethod
    def of(cls, contract: Contract, model: FloatModel) -> _Reference:
        if contract.config.model_type == "torch":
            return cls("the torch module", load_torch_model(contract), contract)
        source = onnx.load(str(contract.onnx_path))
        if contract.config.convert_fp16:
            widen(source)
        run = OnnxRun(source)
        return cls("the ONNX file", run=run, part=_batch_size(source, model))

    @classmethod
    def of_rewritten(cls, contract: Contract, model: FloatModel) -> _Reference:
        """Take the file that was rewritten for esp-ppq, where the user's own does not run."""
        if contract.config.model_type == "torch":
            raise ValueError("a module is held against itself alone")
        rewritten = onnx.load(str(model.onnx_file))
        part = _batch_size(rewritten, model)
        return cls("the rewritten file", run=OnnxRun(rewritten), part=part)

    def __call__(self, inputs: Batch) -> list[list[Any]]:
        if self.run is None:
            assert self.contract is not None
            return [run_module(self.contract, self.module, inputs)]
        feeds = Feeds.of(inputs, self.run.inputs)
        part = self.part
        if part is None:
            part = 1 if feeds.count > 1 and mixes_samples(self.run, feeds) else feeds.count
        results = []
        for start in range(0, feeds.count, part):
            # A part at the end that is too short is filled up from the beginning.
            places = [place % feeds.count for place in range(start, start + part)]
            results.append(list(self.run(feeds.take(places)).values()))
        return results


def _batch_size(proto: Any, model: FloatModel) -> int | None:
    names = [value.name for value in graph_inputs(proto)]
    axes = model.batch_axes or (0,) * len(model.input_shapes)
    pairs = zip(model.input_shapes, axes, strict=True)
    specs = [InputSpec(None, tuple(shape), axis) for shape, axis in pairs]
    return batch_size_of(proto, dict(zip(names, specs, strict=False)))


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()


def _joined(parts: list[Any], like: Any) -> Any:
    """Join the outputs of parts of a batch along the axis that gives the shape of the whole."""
    if len(parts) == 1 or not parts[0].ndim:
        return parts[0]
    for axis in range(parts[0].ndim):
        size = like.shape[axis] if axis < like.ndim else 0
        joined = np.concatenate(parts, axis=axis).take(range(size), axis=axis, mode="clip")
        if joined.shape == like.shape:
            return joined
    return np.concatenate(parts, axis=0)


@dataclass(frozen=True)
class Place:
    """Where two graphs part.

    Attributes:
        op: its name.
        op_type: its type.
        error: the relative error of its output, where its inputs agree.
        cause: the attribute that is not honoured; empty where that is not known.
        remedy: what to change; empty where that is not known.
    """

    op: str
    op_type: str
    error: float
    cause: str = ""
    remedy: str = ""


def _worst_sample(inputs: Batch, outputs: Mapping[str, Any], wanted: Sequence[Any]) -> Batch:
    """Return the sample whose outputs differ most; the first one where that is not known."""
    count = inputs.sample_count
    errors = np.zeros(count)
    for value, theirs in zip(outputs.values(), wanted, strict=True):
        if value.shape == theirs.shape and value.shape[:1] == (count,):
            pairs = zip(value, theirs, strict=True)
            errors = np.maximum(errors, [relative_error(*pair) for pair in pairs])
    worst = int(np.argmax(errors))
    return inputs.take([worst])


def _first_difference(model: FloatModel, graph: Any, sample: Batch) -> Place | None:
    """Return the first op of the file that esp-ppq computes otherwise than onnxruntime."""
    proto = onnx.load(str(model.onnx_file))
    sample = sample.take([0] * (_batch_size(proto, model) or 1))
    edited = Graph(proto)
    held = [name for name, variable in graph.variables.items() if variable.source_op is not None]
    made = {name for node in edited.nodes for name in node.output}
    types = {
        name: edited.element_type(name) or onnx.TensorProto.FLOAT for name in held if name in made
    }
    try:
        run = OnnxRun(proto, types)
        wanted = run(Feeds.of(sample, run.inputs).all())
        ours = run_graph(graph, sample, model.device, list(types))
    except Exception:
        return None
    errors = {
        name: relative_error(_array(value), wanted[name])
        for name, value in zip(types, ours, strict=True)
        if value is not None
    }
    return _parting(edited, graph, errors)


def _parting(edited: Graph, graph: Any, errors: Mapping[str, float]) -> Place | None:
    for op in graph.topological_sort():
        outputs = [variable.name for variable in op.outputs]
        error = max((errors.get(name, 0.0) for name in outputs), default=0.0)
        inputs = [variable.name for variable in op.inputs]
        same = all(errors.get(name, 0.0) <= SAME for name in inputs)
        if error <= LIMIT or not same:
            continue
        node = edited.producer(outputs[0])
        name, op_type = op.name, op.type
        if node is not None and node.op_type != op.type and node.name not in graph.operations:
            # esp-ppq has folded it into the op before it.
            name, op_type = node.name, node.op_type
        shape = edited.shape(node.input[0]) if node is not None and node.input else None
        misread = misreading_of(node, len(shape or ())) if node is not None else None
        if misread is None:
            return Place(name, op_type, error)
        return Place(name, op_type, error, misread.what, misread.remedy)
    return None


def _mismatch(
    wrong: Mapping[str, float], place: Place | None, reference: _Reference, *, is_of_batch: bool
) -> Iterator[Finding]:
    name, error = max(wrong.items(), key=lambda item: item[1])
    shown = "its shape or its infinities differ" if error == float("inf") else f"by {error:.3g}"
    others = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    message = (
        f"what esp-ppq reads is not {reference.what}: output {name!r}{others} differs "
        f"{f'({shown})' if error == float('inf') else f'{shown} of its norm'} on the same samples, "
        f"{LIMIT:g} is allowed"
    )
    if is_of_batch:
        message += (
            "; it gives each sample alone what the model does, and several at once something else: "
            "the batch of one of the export is written into it"
        )
        remedy = (
            'set "batch_size" to 1 in QUANT_CONFIG and score sample by sample; or write the model '
            "without sizes of the batch, without loops over it, and without constants that are "
            "expanded to it"
        )
        subject, op = f"output {name!r}", ""
    elif place is None:
        # The file and esp-ppq agree: then the file is not the module.
        message += (
            "; esp-ppq computes the exported file rightly, so the export is not the module: "
            "control flow that depends on the data, or on the batch, is exported as it went once"
            if reference.module is not None
            else "; no single op of the file differs by as much"
        )
        remedy = (
            "write it without branches on tensors' values and without sizes of the batch"
            if reference.module is not None
            else "see that no comparison of floats in it turns on rounding"
        )
        subject, op = f"output {name!r}", ""
    else:
        message += f"; it begins at op {place.op!r} ({place.op_type})"
        message += f", of which esp-ppq does not honour {place.cause}" if place.cause else ""
        remedy = place.remedy or f"write the {place.op_type} in another way"
        subject, op = f"op {place.op!r} ({place.op_type})", place.op
    yield Finding(
        FindingKind.FAULT,
        "another_model",
        subject,
        message,
        Hint(
            f"{remedy}; ", Option.ALLOW_MISMATCH.of(True), " scores that other model all the same"
        ),
        figures={"errors": dict(wrong), "limit": LIMIT, "op": op},
    )


def _not_finite(outputs: Mapping[str, Any], wanted: Sequence[Any]) -> Iterator[Finding]:
    for (name, value), theirs in zip(outputs.items(), wanted, strict=True):
        if theirs.dtype.kind != "f":
            continue
        own = "the model itself gives" if not np.isfinite(theirs).all() else ""
        if not own and np.isfinite(value).all():
            continue
        count = int((~np.isfinite(value if not own else theirs)).sum())
        yield Finding(
            FindingKind.FAULT,
            "not_finite",
            f"output {name!r}",
            f"{own or 'esp-ppq, unlike the model, gives'} NaN or infinite numbers on calibration "
            f"samples: {count} of {theirs.size} of output {name!r}",
            "no scale holds them: see that the weights are trained ones and the samples scaled as "
            "in training",
            figures={"count": count},
        )


def _not_compared(error: BaseException, *, rewritten: bool = False) -> Finding:
    so = (
        "what esp-ppq reads is compared with the file as it was rewritten for it alone"
        if rewritten
        else "nothing shows that what esp-ppq reads is your model"
    )
    return Finding(
        FindingKind.WARNING,
        "float_not_compared",
        "the model",
        f"onnxruntime cannot run the ONNX file, so that {so}: {describe_failure(error)}",
        "score a file that onnxruntime runs, or compare the float score with one of your own",
    )


def _other_outputs(wanted: Sequence[Any], outputs: Mapping[str, Any]) -> Finding:
    return Finding(
        FindingKind.FAULT,
        "other_outputs",
        "the model",
        f"the model returns {len(wanted)} tensors, the graph that esp-ppq reads has "
        f"{len(outputs)} outputs: {', '.join(map(repr, outputs))}",
        "return every tensor once, and none that is an input or a constant",
        figures={"returned": len(wanted), "outputs": len(outputs)},
    )


def _not_deterministic(name: str) -> Finding:
    return Finding(
        FindingKind.WARNING,
        "not_deterministic",
        f"output {name!r}",
        f"the model is not deterministic: output {name!r} differs from run to run on the same "
        "samples, so that it cannot be compared with what esp-ppq reads",
        "see that no dropout or noise is at work (training=self.training, and eval mode), and that "
        "forward() keeps nothing in the module: make a state an input and an output",
    )
