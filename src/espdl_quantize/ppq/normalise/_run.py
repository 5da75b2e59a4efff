"""The list of rewrites, in their order, and the proof that they change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import shape_inference

from espdl_quantize.contract import InputSpec
from espdl_quantize.core import (
    Finding,
    FindingKind,
    Json,
    error_of,
)
from espdl_quantize.ppq.normalise import attributes, ends, files, folds, forms
from espdl_quantize.ppq.normalise.graph import Graph
from espdl_quantize.ppq.onnx_runs import Arrays, Feeds, OnnxRun, largest_error, mixes_samples

TOLERANCE = 1e-4
"""Relative error from which a rewrite counts as one that changes the numbers: a hundred times
what the order of a sum costs a deep network in float32."""

HALF_TOLERANCE = 0.05
"""Relative error that numbers of 16 bits may make in a network: 2**-11 for each float16, 2**-8 for
each bfloat16, and dozens of layers."""

_LARGEST = 1 << 31
"""Bytes from which on protobuf writes no model, so that none can be verified."""

_ROUNDS = 4
"""One rewrite makes work for another, but not often."""

Rule = Callable[[Graph], Iterator[str]]


@dataclass(frozen=True)
class Rewrite:
    """What was written in other words.

    Attributes:
        name: of the rewrite.
        nodes: the names of the nodes that it changed.
        why: what esp-ppq reads otherwise.
    """

    name: str
    nodes: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        shown = ", ".join(self.nodes[:3]) + (", ..." if len(self.nodes) > 3 else "")
        return f"{self.name} ({len(self.nodes)}): {shown}; {self.why}"

    def to_json(self) -> Json:
        """Return it as plain data."""
        return {"name": self.name, "count": len(self.nodes), "nodes": list(self.nodes)} | {
            "why": self.why
        }


@dataclass(frozen=True)
class Normalised:
    """A model as esp-ppq is given it.

    Attributes:
        model: an ONNX ``ModelProto``.
        rewrites: what was written in other words, in the order in which it was.
        findings: what could not be done, or not be verified.
    """

    model: Any
    rewrites: tuple[Rewrite, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


RULES: tuple[tuple[str, Rule, str], ...] = (
    ("node names", attributes.node_names, "esp-ppq tells ops apart by their names"),
    ("constants", forms.clean_constants, "esp-ppq's parser knows constants that are tensors"),
    ("missing inputs", attributes.trailing_inputs, "esp-ppq counts inputs that are not there"),
    ("unread outputs", attributes.unread_outputs, "esp-ppq's ops return the first ones alone"),
    ("dropout", forms.dropouts, "it passes everything on, and esp-ppq has none"),
    ("pool strides", attributes.pool_strides, "left out they are 1, esp-ppq takes the kernel"),
    ("pads", attributes.explicit_pads, "esp-ppq knows auto_pad in two dimensions only"),
    ("reduction axes", attributes.reduction_axes, "esp-ppq's exporter asks for keepdims"),
    ("softmax axis", attributes.softmax_axis, "esp-ppq's exporter asks for it"),
    ("argmax axis", attributes.argmax_axis, "left out it is 0, esp-ppq takes the whole tensor"),
    ("transpose order", attributes.transpose_order, "esp-ppq asks for it"),
    ("products", attributes.products, "esp-ppq multiplies along one axis at a time"),
    ("counted axes", attributes.counted_axes, "esp-ppq's Gather ignores a negative axis"),
    ("squeezed axes", attributes.squeezed_axes, "esp-ppq takes one after the other"),
    ("slice axes", attributes.slice_axes, "esp-ppq asks for them where there are steps"),
    ("split sizes", attributes.split_sizes, "esp-ppq makes all parts equal"),
    ("pad axes", attributes.pad_axes, "esp-ppq takes no axes"),
    ("resize axes", attributes.resize_axes, "esp-ppq takes no axes"),
    ("resize scales", attributes.resize_scales, "sizes hold a batch size"),
    ("recurrent defaults", attributes.recurrent_defaults, "esp-ppq takes no activations"),
    ("initial states", forms.initial_states, "esp-ppq quantizes none that starts from nothing"),
    ("if", folds.constant_branches, "its condition is a constant, and esp-ppq has no If"),
    ("joins", forms.chains, "esp-ppq joins two tensors at a time"),
    ("space to depth", forms.space_to_depth, "esp-ppq orders the channels another way"),
    ("prelu", forms.prelu, "esp-ppq takes its slopes for the channels'"),
    ("layer norm", forms.layer_norm, "esp-ppq normalizes the last axis alone"),
    ("transposed pads", forms.transposed_pads, "esp-ppq takes the height's for the width's"),
    ("reciprocal", forms.reciprocals, "no chip has it"),
    ("instance norm", forms.instance_norms, "esp-ppq ignores its epsilon, no chip has it"),
    ("vector product", forms.vector_products, "esp-ppq does not pack a vector for the kernel"),
    ("global max", forms.global_max, "no chip has it"),
    ("nearest places", forms.nearest_places, "esp-ppq ignores how coordinates are rounded"),
    ("bias add", folds.bias_add, "esp-ppq adds it along the width where there is a bias already"),
    ("gemm factors", folds.gemm_factors, "esp-ppq's exporter refuses factors"),
    ("lone norms", folds.lone_norms, "esp-ppq makes a two-dimensional convolution of them"),
    ("padded average", folds.padded_average, "esp-ppq and the chips count the padding"),
)
"""Every rewrite: its name, what does it, and what esp-ppq reads otherwise."""

LAST_RULES: tuple[tuple[str, Rule, str], ...] = (
    ("gelu", folds.gelu, "no chip has an Erf, all have a table for Gelu"),
)
"""What is done at the end: ONNX's shape inference does not know the ops that come of it."""


def normalise(
    model: Any,
    inputs: Mapping[str, InputSpec],
    feeds: Feeds,
    *,
    convert_half: bool = False,
) -> Normalised:
    """Rewrite a model into the form that esp-ppq reads rightly.

    A model that needs nothing comes out as onnxsim leaves it.

    Args:
        model: an ONNX ``ModelProto``; it is not changed.
        inputs: what is known of each input, for dimensions that the file leaves open.
        feeds: a few samples on which the rewrites are verified; as many as the batch that the file
            states.
        convert_half: convert numbers of 16 bits.

    Raises:
        ContractError: the file is no float model, or its inputs or outputs are none of a graph.
    """
    refused = error_of([*files.refusals(model, convert_half=convert_half), *ends.unsound(model)])
    if refused is not None:
        raise refused
    feeds, reference, findings = _reference(model, inputs, feeds, convert_half=convert_half)
    run = _Run(model, inputs, feeds, None)
    run.all_steps()
    if reference is not None and not _agrees(run.model, feeds, reference):
        run = _Run(model, inputs, feeds, reference)
        run.all_steps()
    refused = error_of(ends.unfit(run.model))
    if refused is not None:
        raise refused
    return Normalised(run.model, tuple(run.rewrites.values()), (*findings, *run.findings))


def _reference(
    model: Any, inputs: Mapping[str, InputSpec], feeds: Feeds, *, convert_half: bool
) -> tuple[Feeds, Arrays | None, list[Finding]]:
    """Run the file as it is, on one sample where it mixes several; None where it does not run."""
    try:
        if model.ByteSize() >= _LARGEST:
            raise ValueError("it has 2 GB or more")
        narrow = model
        if convert_half:
            model = _copied(model)
            files.widen(model)
        run = OnnxRun(model)
        if files.batch_size_of(model, inputs) is None and mixes_samples(run, feeds):
            feeds = feeds.first()
        outputs = run(feeds.all())
        return feeds, outputs, _against_halves(narrow, feeds, outputs) if convert_half else []
    except Exception as error:
        finding = Finding(
            FindingKind.WARNING,
            "rewrites_not_verified",
            "the model",
            f"onnxruntime cannot run the file, so that what esp-ppq reads cannot be compared with "
            f"it: {_first_line(error)}",
        )
        return feeds, None, [finding]


def _against_halves(model: Any, feeds: Feeds, wide: Arrays) -> list[Finding]:
    """Hold a file of 16 bits against itself in float32, where onnxruntime runs it as it is."""
    try:
        narrow = OnnxRun(model)(feeds.all())
    except Exception:
        # It has no kernels of many ops in these types; the wide file is then the reference alone.
        return []
    error = largest_error(list(wide.values()), list(narrow.values()))
    if error <= HALF_TOLERANCE:
        return []
    return [
        Finding(
            FindingKind.WARNING,
            "half_differs",
            "the model",
            f"in float32 the file gives other outputs than in its 16 bits, by {error:.2g} of their "
            "norm: numbers leave the range of 16 bits in it",
            "see that the float value is what you know of the model, or export it in float32",
            figures={"error": error},
        )
    ]


def _agrees(model: Any, feeds: Feeds, reference: Arrays) -> bool:
    return _error(model, feeds, reference) <= TOLERANCE


def _error(model: Any, feeds: Feeds, reference: Arrays) -> float:
    try:
        outputs = OnnxRun(model)(feeds.all())
    except Exception:
        return float("inf")
    if list(outputs) != list(reference):
        return float("inf")
    return largest_error(list(outputs.values()), list(reference.values()))


class _Run:
    """Takes all steps; with a reference, each is verified on its own, and undone where it fails."""

    def __init__(
        self,
        model: Any,
        inputs: Mapping[str, InputSpec],
        feeds: Feeds,
        reference: Arrays | None,
    ) -> None:
        self.model = _copied(model)
        self.rewrites: dict[str, Rewrite] = {}
        self.findings: list[Finding] = []
        self._inputs, self._feeds, self._reference = inputs, feeds, reference

    def all_steps(self) -> None:
        """Take the steps in their order."""
        self._whole("float32", _widened, "esp-ppq computes in float32")
        self._whole("sparse constants", ends.densified, "esp-ppq knows dense ones")
        self._whole("functions", _inlined, "esp-ppq takes ops for ONNX's by their names")
        self._whole("opset", self._raised, f"esp-ppq exports what opset {files.OPSET} says")
        self._whole("dimensions", self._fixed, "open ones are those of input_shape")
        self._whole("shapes", self._folded, "a chip computes no shapes")
        self._simplify()
        for _ in range(_ROUNDS):
            changed = [self._rule(*rule) for rule in RULES]
            if self._is_new("if", changed):
                self._simplify()
            if not any(changed):
                break
        for rule in LAST_RULES:
            self._rule(*rule)

    @staticmethod
    def _is_new(name: str, changed: Sequence[bool]) -> bool:
        return any(did and rule[0] == name for did, rule in zip(changed, RULES, strict=True))

    def _rule(self, name: str, rule: Rule, why: str) -> bool:
        graph = Graph(self.model) if self._reference is None else Graph(_copied(self.model))
        nodes = list(rule(graph))
        if not nodes:
            return False
        graph.finish()
        if not self._is_trusted(name, graph.model):
            return False
        self.model = graph.model
        self._note(name, nodes, why)
        return True

    def _whole(self, name: str, change: Callable[[Any], tuple[Any, list[str]]], why: str) -> None:
        try:
            changed, nodes = change(_copied(self.model))
        except Exception as error:
            self._drop(name, f"it cannot be done: {_first_line(error)}")
            return
        if nodes and self._is_trusted(name, changed):
            self.model = changed
            self._note(name, nodes, why)

    def _is_trusted(self, name: str, model: Any) -> bool:
        if self._reference is None:
            return True
        error = _error(model, self._feeds, self._reference)
        if error <= TOLERANCE:
            return True
        self._drop(name, f"it would change the outputs by {error:.2g} of their norm")
        return False

    def _drop(self, name: str, reason: str) -> None:
        self.findings.append(
            Finding(
                FindingKind.WARNING,
                "rewrite_dropped",
                f"rewrite {name!r}",
                f"the rewrite {name!r} of the model was left out: {reason}",
            )
        )

    def _note(self, name: str, nodes: Sequence[str], why: str) -> None:
        before = self.rewrites.get(name)
        known = before.nodes if before else ()
        self.rewrites[name] = Rewrite(name, tuple(dict.fromkeys([*known, *nodes])), why)

    def _raised(self, model: Any) -> tuple[Any, list[str]]:
        raised = files.raised(model, self._inputs)
        # Constants that were attributes before are no ops of the file's.
        nodes = [node for node in raised.graph.node if node.op_type != "Constant"]
        return raised, ([] if raised is model else [node.name or node.output[0] for node in nodes])

    def _fixed(self, model: Any) -> tuple[Any, list[str]]:
        return model, files.fix_dimensions(model, self._inputs)

    def _folded(self, model: Any) -> tuple[Any, list[str]]:
        return model, files.fold_shapes(model, self._inputs, self._feeds)

    def _simplify(self) -> None:
        try:
            simplified, equal = _simplified(self.model)
        except Exception as error:
            # esp-ppq goes on without simplifying where onnxsim lacks an op: its parser may know it.
            if "No Op registered for" not in str(error):
                self._drop("onnxsim", f"it cannot be done: {_first_line(error)}")
            return
        if equal and self._is_trusted("onnxsim", simplified):
            self.model = simplified


def _simplified(model: Any) -> tuple[Any, bool]:
    from onnxsim import simplify

    try:
        simplified, equal = simplify(_copied(model))
    except Exception:
        # It asks for shapes that a file need not state.
        simplified, equal = simplify(shape_inference.infer_shapes(model))
    return simplified, bool(equal)


def _widened(model: Any) -> tuple[Any, list[str]]:
    return model, files.widen(model)


def _inlined(model: Any) -> tuple[Any, list[str]]:
    names = [function.name for function in model.functions]
    return files.inlined(model), names


def _copied(model: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
