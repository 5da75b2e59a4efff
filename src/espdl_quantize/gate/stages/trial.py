"""A trial on one small batch, without training: what cannot be quantized or exported shows now,
and where the file computes something else than what is scored."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.chip import ChipCheck, Fault, check_model
from espdl_quantize.contract import Batch
from espdl_quantize.core import Command, Finding, FindingKind, Hint, Option
from espdl_quantize.gate._context import GateContext
from espdl_quantize.ppq import QuantizedModel, export, quantize, unsupported
from espdl_quantize.record.files import MODEL
from espdl_quantize.setting import ResolvedSetting, baseline, fit_to_model, resolve
from espdl_quantize.targets.ops import op_table, remedy_of, version_text

SAMPLES = 8
"""Of the batch that the trial calibrates with: it asks what is possible, not how accurate it is."""

STEPS = 2
"""The fewest that esp-ppq's calibration takes (RuntimeCalibrationPass asserts it); it reads the one
batch twice."""

OF_SCALES = frozenset({"shift", "exponents", "bias", "shared exponent", "one exponent"})
"""Rules of the chip that scales decide: those of a few samples say nothing of a whole calibration,
so that what breaks them here is a warning."""


def try_out(context: GateContext) -> Iterator[Finding]:
    """Quantize by the baseline's setting, export, and hold the file against the chip's rules."""
    config = context.contract.config
    resolved = _resolved(context)
    batches = [context.batches[0].first(SAMPLES)]
    file = context.scratch / MODEL
    for message in resolved.warnings:
        yield Finding(FindingKind.NOTE, "setting_changed", "the baseline's setting", message)
    if context.has("equivalence") and any(
        finding.code == "not_finite" for finding in context.equivalence.findings
    ):
        # Nothing can be calibrated by what is no number, and that is said already.
        return
    faults = unsupported(context.graph)
    if faults:
        # The quantizer would stumble over them.
        yield from faults
        return
    with context.progress.stage("quantize on one batch"):
        quantized = quantize_trial(context, batches)
    with context.progress.stage("export"):
        layouts = export(quantized, file, engine=context.engine)
    context.trial = quantized
    with context.progress.stage("check the exported file"):
        check = check_model(
            file,
            config.target,
            quantized.graph,
            layouts,
            batches,
            config.device,
            engine=context.engine,
            esp_dl=config.esp_dl,
        )
    for fault in check.legality.faults:
        yield _finding(fault, config.target)
    for doubt in check.legality.doubts:
        if doubt.rule == "later version":
            yield _doubt(doubt, config.target)
    yield from _differences(check)


def _differences(check: ChipCheck) -> Iterator[Finding]:
    """Name the ops that compute something else on the chip, by more than a step."""
    for op in check.differing:
        if op.agreement.largest > 1:
            where, share = f"op {op.op!r} ({op.op_type})", op.agreement.percent or 0.0
            yield Finding(
                FindingKind.WARNING,
                "computes_differently",
                where,
                f"{where}: as exported, {share:.4g} % of its integers on "
                f"{check.legality.chip} are what the simulation says, the largest difference is "
                f"{op.agreement.largest} steps: what is scored is not what the chip computes",
                Hint(
                    "write the layer by other ops; whether it is so, a board says: ",
                    Command.DEPLOY,
                ),
                figures={"percent": share, "steps": op.agreement.largest},
            )


def _doubt(doubt: Fault, chip: str) -> Finding:
    """Tell of what only a later ESP-DL can load; the iteration warns of it by itself."""
    where = f"op {doubt.op!r} ({doubt.op_type})"
    version = Option.ESP_DL_VERSION.of(version_text(op_table().version))
    hint = Hint(f"{remedy_of(doubt.op_type)}; ", version, " sees to it")
    message = f"{where} may not load on {chip}: {doubt.cause}"
    return Finding(FindingKind.NOTE, "needs_later_esp_dl", where, message, hint)


def quantize_trial(context: GateContext, batches: list[Batch]) -> QuantizedModel:
    """Quantize by the baseline's setting, calibrated by these few batches."""
    config = context.contract.config
    return quantize(
        context.model,
        config.model_copy(update={"calib_steps": max(STEPS, len(batches))}),
        _resolved(context),
        batches,
        context.progress,
        engine=context.engine,
        seed=context.options.seed,
    )


def _resolved(context: GateContext) -> ResolvedSetting:
    """Return what the baseline's setting comes to for this model."""
    config = context.contract.config
    setting = baseline(0, num_of_bits=config.num_of_bits)
    return fit_to_model(
        resolve(setting, context.target, config.device, esp_dl=config.esp_dl),
        {op.name: op.type for op in context.graph.operations.values()},
        context.target,
        esp_dl=config.esp_dl,
    )


def _finding(fault: Fault, chip: str) -> Finding:
    where = f"op {fault.op!r} ({fault.op_type})" if fault.op else "the exported model"
    kind = FindingKind.WARNING if fault.rule in OF_SCALES else FindingKind.FAULT
    code = f"illegal_{fault.rule.replace(' ', '_')}"
    message = f"{where} is illegal on {chip}: {fault.cause}"
    return Finding(kind, code, where, message, _remedy(fault))


def _remedy(fault: Fault) -> str:
    if fault.rule == "op type":
        return remedy_of(fault.op_type)
    if fault.rule == "restriction" and "groups" in fault.cause:
        return (
            "use one group, or as many as there are channels; else split the channels, convolve "
            "each part by itself, and join them"
        )
    if fault.rule in OF_SCALES:
        return "see whether it is so after a whole calibration: the iteration says it again"
    return (
        "change the layer to what is expected, write it by other ops, or end the model before it "
        "and compute the rest in the program on the chip and in evaluate()"
    )
