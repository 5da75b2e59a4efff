"""The user's model, and the float graph that esp-ppq makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite

from espdl_quantize.contract import contradictions, read_model_file
from espdl_quantize.core import Finding, FindingKind
from espdl_quantize.gate._context import GateContext
from espdl_quantize.ppq import probe_torch_model
from espdl_quantize.ppq.unsupported import unsupported
from espdl_quantize.record import FLOAT_MISMATCH


def hold_inputs(context: GateContext) -> Iterator[Finding]:
    """Hold what an ONNX file declares of its inputs against what the contract says of them."""
    contract = context.contract
    if contract.config.model_type == "onnx":
        names = context.batches[0].names if context.has("batches") else None
        wrong = contradictions(contract.config, read_model_file(contract.onnx_path), names)
        for each in wrong:
            yield Finding(
                FindingKind.FAULT, each.code, each.subject, each.message, each.hint, each.figures
            )
        if wrong:
            return
    context.inputs_fit = True


def run_torch_model(context: GateContext) -> Iterator[Finding]:
    """Run the torch model on a calibration batch and on a batch of one."""
    if context.contract.config.model_type == "torch":
        probe_torch_model(context.contract, context.probe())
    context.runs = True
    yield from ()


def read_model(context: GateContext) -> Iterator[Finding]:
    """Export or copy the model, have esp-ppq read it, and run what it read."""
    context.model, context.graph = context.prepared.float_model(context.probe())
    config = context.contract.config
    context.facts["ops"] = len(context.graph.operations)
    context.facts["inputs"] = (
        config.input_shapes
        if config.batch_axis == 0 and config.input_names is None
        else [f"{spec.name or ''}{spec.describe()}" for spec in config.inputs]
    )
    context.facts["outputs"] = list(context.graph.outputs)
    if context.model.rewrites:
        context.facts["rewrites"] = {
            rewrite.name: len(rewrite.nodes) for rewrite in context.model.rewrites
        }
    for rewrite in context.model.rewrites:
        yield Finding(
            FindingKind.NOTE,
            "rewritten",
            rewrite.name,
            str(rewrite),
            figures=rewrite.to_json(),
        )
    yield from context.model.findings


def compare_models(context: GateContext) -> Iterator[Finding]:
    """Compare what esp-ppq reads with the user's own model."""
    if unsupported(context.graph):
        # The trial names these ops. A recurrent one without a state reads otherwise as well, of
        # which the cause would be guessed.
        return
    equivalence = context.equivalence = context.prepared.equivalence(context.probe())
    if equivalence.largest is not None and isfinite(equivalence.largest):
        context.facts["float_difference"] = equivalence.largest
    faults = equivalence.faults
    is_allowed = bool(faults) and context.options.allow_mismatch
    if is_allowed:
        context.facts[FLOAT_MISMATCH] = "; ".join(fault.line for fault in faults)
    for finding in equivalence.findings:
        is_softened = is_allowed and finding.is_fault
        yield replace(finding, kind=FindingKind.WARNING) if is_softened else finding
