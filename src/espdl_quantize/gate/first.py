"""The gate before the first iteration of an output folder."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import FindingKind, Progress
from espdl_quantize.gate._context import GateContext, GateOptions
from espdl_quantize.gate._run import examine
from espdl_quantize.gate.stages import STAGES
from espdl_quantize.iteration import Examination, Prepared, RunOptions


def examine_first(
    prepared: Prepared, options: RunOptions, scratch: Path, progress: Progress
) -> Examination:
    """Run all stages on a contract that is about to be quantized.

    What they read and compute is kept in ``prepared`` and in the result, for the iteration.

    Args:
        prepared: of the contract.
        options: of the iteration.
        scratch: a folder for files that may be removed afterwards.
        progress: receives the stages.

    Raises:
        EspdlQuantizeError: all faults that were found.
    """
    chosen = GateOptions(
        score=options.score_float,
        allow_mismatch=options.allow_mismatch,
        final=False,
        seed=options.seed,
        full_eval=options.full_eval,
        engine=options.engine,
    )
    context = GateContext(prepared.contract.path, scratch, chosen, progress)
    context.contract, context.prepared, context.reads_all = prepared.contract, prepared, True
    report = examine(context, STAGES)
    if report.error is not None:
        raise report.error
    warnings = tuple(
        finding.line
        for finding in report.of_kind(FindingKind.WARNING)
        # The iteration says it itself, of all that it reads.
        if finding.code != "few_calibration_samples"
    )
    return Examination(warnings, context.scored if context.has("scored") else None)
