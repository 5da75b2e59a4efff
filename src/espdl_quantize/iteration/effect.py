"""Finds out that an iteration changes nothing, before its time is spent on it."""

from __future__ import annotations

from espdl_quantize.iteration._context import Context
from espdl_quantize.iteration._score import evaluator_of
from espdl_quantize.ppq import esp_ppq_version, setting_digest
from espdl_quantize.record import read_history
from espdl_quantize.setting import ResolvedSetting


def key_of_run(context: Context, resolved: ResolvedSetting) -> str | None:
    """Return what stands for everything that decides on the quantized graph.

    It is None where something else may decide on it, too.
    """
    config, options = context.contract.config, context.options
    if options.is_auxiliary:
        return None
    return setting_digest(
        resolved.setting,
        config.target,
        config.num_of_bits,
        esp_ppq_version(),
        str(options.engine),
        options.seed,
        context.contract.fingerprint,
        context.float_key,
    )


def same_as_earlier(context: Context, **wanted: str | None) -> int | None:
    """Return the first earlier iteration that has the same key, and a score that this would get.

    Args:
        context: of an iteration that may be without effect.
        wanted: one field of the record, and its value here.
    """
    options = context.options
    ((field, value),) = wanted.items()
    if value is None or options.is_auxiliary or not options.stop_without_effect:
        return None
    number = context.setting.iteration_id
    used = evaluator_of(context.contract, full=options.full_eval, final=False)
    alike = (
        record.id
        for record in read_history(context.folder.parent).scored
        if getattr(record, field) == value
        and record.id < number
        and record.evaluated_by == used
        and record.engine == options.engine
        and record.contract_key == context.contract.fingerprint
        and record.float_reference_key == context.float_key
        and record.model_path is not None
    )
    return next(alike, None)
