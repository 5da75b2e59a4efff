"""Auxiliary runs: the final score of an iteration, and other draws of the calibration data.

They quantize as an iteration does, and leave out what only the search needs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from espdl_quantize.contract import Batch
from espdl_quantize.iteration._float_reference import FloatReference
from espdl_quantize.iteration._per_sample import ScoreFacts
from espdl_quantize.iteration._score import SEARCHING, Score
from espdl_quantize.record import model_digest


def auxiliary_facts(
    facts: ScoreFacts, draw: int, model: Path, scored: Score, reference: FloatReference
) -> ScoreFacts:
    """Return what the record says of an auxiliary run.

    Args:
        facts: what it says of every score.
        draw: of the calibration data.
        model: the exported file.
        scored: its score.
        reference: knows which samples the search scores.
    """
    shared = facts.samples_shared_with_search
    if draw == 0 and scored.watcher is not None:
        of_search: set[bytes] = set()
        for used in SEARCHING:
            if used != scored.used:
                of_search |= reference.samples(used)
        shared = scored.watcher.shared_with(of_search)
    return replace(
        facts, model_sha256=model_digest(model), draw=draw, samples_shared_with_search=shared
    )


def drawn(batches: list[Batch], draw: int, seed: int, calib_steps: int) -> list[Batch]:
    """Return another draw of the calibration data.

    A loader may or may not shuffle, so its own order says nothing. All samples that it gave are one
    pool. Where the pool has twice what calibration reads or more, a draw is the pool in another
    order, of which calibration reads the beginning; else it takes as many samples, each of which
    may come more than once (the bootstrap), since there are too few for another choice.

    Args:
        batches: of the loader; the first ``calib_steps`` calibrate.
        draw: 0 is the loader's own batches.
        seed: of the draws.
        calib_steps: the contract's.
    """
    if draw == 0:
        return batches
    import torch

    sizes = [batch.sample_count for batch in batches]
    pool = Batch.joined(batches)
    total = sum(sizes)
    generator = torch.Generator().manual_seed(1_000_003 * seed + draw)
    if total >= 2 * sum(sizes[:calib_steps]):
        order = torch.randperm(total, generator=generator)
    else:
        order = torch.randint(total, (total,), generator=generator)
    return [pool.take(part) for part in torch.split(order, sizes)]
