"""Runs beside the search: the final score of an iteration, and other draws of calibration data.

They quantize as an iteration does, and leave out what only the search needs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from espdl_quantize.contract import Batch
from espdl_quantize.core import Json
from espdl_quantize.iteration._float_reference import FloatReference
from espdl_quantize.iteration._score import SEARCHING, Score

FINAL = "final"
"""The folder of the final scores in an output folder."""


def model_digest(file: Path) -> str | None:
    """Return the SHA-256 of an exported model; None where there is none."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def aside_facts(draw: int, model: Path, scored: Score, reference: FloatReference) -> Json:
    """Return what the index says of such a run.

    Args:
        draw: of the calibration data.
        model: the exported file.
        scored: its score.
        reference: knows which samples the search scores.
    """
    facts: Json = {"model_sha256": model_digest(model), "draw": draw}
    if draw == 0 and scored.watcher is not None:
        searched: set[bytes] = set()
        for used in SEARCHING:
            if used != scored.used:
                searched |= reference.samples(used)
        facts["samples_shared_with_search"] = scored.watcher.shared_with(searched)
    return facts


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
    pool = [torch.cat(parts) for parts in zip(*(batch.tensors for batch in batches), strict=True)]
    total = sum(sizes)
    generator = torch.Generator().manual_seed(1_000_003 * seed + draw)
    if total >= 2 * sum(sizes[:calib_steps]):
        order = torch.randperm(total, generator=generator)
    else:
        order = torch.randint(total, (total,), generator=generator)
    names = batches[0].names
    return [
        Batch(tuple(tensor[part.to(tensor.device)] for tensor in pool), names)
        for part in torch.split(order, sizes)
    ]
