"""The contract's own form, its chip, and the data that it calibrates with."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from espdl_quantize.contract import (
    Batch,
    ContractFaultsError,
    count_samples,
    load_contract,
    note_of_few_for_kl,
    note_of_repeats,
    read_batches,
    warn_of_few,
)
from espdl_quantize.core import EspdlQuantizeError, Finding, FindingKind
from espdl_quantize.gate._context import GateContext
from espdl_quantize.gate.thresholds import SANITY
from espdl_quantize.iteration import Prepared
from espdl_quantize.ppq import (
    batch_digests,
    check_installation,
    prepare_device,
    probe_target,
    seed_everything,
    target_names,
)

OF_THE_SCORE = frozenset(
    {
        *("primary_metric", "metric_direction", "metric_unit", "target_metric"),
        *("evaluate", "evaluate_fast", "evaluate_final"),
    }
)
"""What nothing can be scored without."""

OF_THE_CHIP = frozenset({"target", "num_of_bits"})
"""What nothing can be said of a chip without."""

ENOUGH_SAMPLES = 32
"""Samples that are read at least, where calib_steps allows: statistics of fewer say little."""


def load(context: GateContext) -> Iterator[Finding]:
    """Load the module, and name every fault of its form."""
    if context.has("contract"):
        return
    check_installation()
    try:
        context.contract = load_contract(context.path, target_names(), context.options.overrides)
    except ContractFaultsError as error:
        for fault in error.faults:
            yield Finding(
                FindingKind.FAULT,
                "contract_form",
                fault.key,
                str(fault),
                f"write it such as {fault.example}",
                figures={"found": fault.found, "expected": fault.expected},
                error=error,
            )
        if error.rest is None:
            return
        # What does not depend on the faulty keys is examined all the same.
        context.contract = error.rest
        context.faulty = frozenset(fault.name for fault in error.faults)
        if context.faulty & OF_THE_SCORE:
            context.options = replace(context.options, score=False)
    context.prepared = Prepared(context.contract, context.scratch)
    for key in context.contract.ignored_keys:
        yield Finding(
            FindingKind.NOTE,
            "ignored_key",
            f'QUANT_CONFIG["{key}"]',
            f"QUANT_CONFIG[{key!r}] means nothing here and is ignored",
        )


def probe_chip(context: GateContext) -> Iterator[Finding]:
    """Look at the device, and at what the chip's quantizer does."""
    config = context.contract.config
    context.facts["model"] = context.contract.model_name
    prepare_device(config.device)
    context.has_device = True
    if not context.faulty & OF_THE_CHIP:
        target = context.target = probe_target(config.target, config.num_of_bits)
        weights = "per channel" if target.per_channel_weights else "per tensor"
        context.facts["target"] = (
            f"{config.target}, {config.num_of_bits} bits, weights {weights}, "
            f"rounding {target.rounding}"
        )
    context.install_engine()
    yield from ()


def read_loader(context: GateContext) -> Iterator[Finding]:
    """Read the first calibration batches."""
    config = context.contract.config
    length: int | None = None

    def show(done: int, total: int | None) -> None:
        nonlocal length
        length = total
        context.progress.update(done, total, f"batch {done}")

    seed_everything(context.options.seed)
    started = time.perf_counter()
    if context.reads_all or not context.contract.has_evaluate:
        context.batches, _ = context.prepared.batches(context.options.seed, show)
        length = len(context.batches)
        samples = count_samples(context.batches[: config.calib_steps])
    else:
        limit = -(-ENOUGH_SAMPLES // config.batch_size)
        context.batches = read_batches(context.contract, limit=limit, on_batch=show)
        if len(context.batches) < limit:
            length = len(context.batches)
        samples = count_samples(context.batches) * config.calib_steps // len(context.batches)
    is_short = time.perf_counter() - started < SANITY.seconds_of_repeats
    # Without an evaluation some samples are drawn to be scored, and the first batch is another one.
    if is_short and context.contract.has_evaluate:
        yield from _draws_others(context)
    for message in warn_of_few(samples):
        yield Finding(
            FindingKind.WARNING,
            "few_calibration_samples",
            "create_calib_dataloader()",
            message,
            figures={"samples": samples},
        )
    # At 16 bits the baseline is minmax.
    for message in note_of_few_for_kl(samples) if config.num_of_bits == 8 else []:
        yield Finding(
            FindingKind.NOTE,
            "few_for_kl",
            "create_calib_dataloader()",
            message,
            figures={"samples": samples},
        )
    for message in context.prepared.notes:
        yield Finding(FindingKind.NOTE, "held_out", "create_score_dataloader()", message)
    for message in note_of_repeats(length or config.calib_steps, config.calib_steps):
        yield Finding(
            FindingKind.NOTE,
            "short_loader",
            "create_calib_dataloader()",
            message,
            figures={"batches": length, "calib_steps": config.calib_steps},
        )


def _draws_others(context: GateContext) -> Iterator[Finding]:
    """See that the loader gives the same first batch when it is made again, by the same seed."""
    again: list[Batch] = []
    seed_everything(context.options.seed)
    # What it cannot do twice, an iteration says.
    with contextlib.suppress(EspdlQuantizeError):
        again = read_batches(context.contract, limit=1)
    held = context.batches[0]
    names = held.names or [str(place) for place in range(len(held.tensors))]
    first = batch_digests(held, names)
    second = batch_digests(again[0], names) if again else first
    if first == second:
        return
    new = len(set(second) - set(first))
    yield Finding(
        FindingKind.WARNING,
        "calibration_differs",
        "create_calib_dataloader()",
        f"create_calib_dataloader() gives other samples each time that it is called, by the same "
        f"seed: {new} of the first {len(second)} were new the second time. Every iteration would "
        "calibrate with other samples, and scores differ by the draw",
        "draw them by torch's own generator, which is seeded before every call, or by one that is "
        "seeded in create_calib_dataloader()",
        figures={"samples": len(second), "new_samples": new},
    )
