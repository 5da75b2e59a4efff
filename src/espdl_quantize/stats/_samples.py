"""What is known of each sample that was scored, and its file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espdl_quantize.core import beside_of, create_beside

DIGEST = 16
"""Bytes that stand for the content of a sample."""


@dataclass(frozen=True)
class Samples:
    """Numpy arrays, one row per sample; None where nothing is known.

    Attributes:
        results: float64 [samples], what the evaluation says of each sample.
        result_digests: uint8 [samples, 16], the content of the input behind each result, where
            as many inputs were seen as there are results.
        replicates: float64 [draws], what the metric comes to on resampled samples, where it is made
            of records of any shape; ``result_digests`` are then of these, in a fixed order.
        digests: uint8 [held-out samples, 16], of the inputs that the signals were measured on.
        noise: float32 [held-out samples, outputs], noise:signal power against the float model.
        agrees: float32 [held-out samples, outputs], 1 where the largest element of an output is the
            float model's; NaN for an output that is no vector.
    """

    results: Any = None
    result_digests: Any = None
    digests: Any = None
    noise: Any = None
    agrees: Any = None
    replicates: Any = None


_FIELDS = ("results", "replicates", "result_digests", "digests", "noise", "agrees")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays so that a reader sees the whole old file or the whole new one.

    Raises:
        OSError: the file cannot be written.
    """
    import numpy as np

    beside = beside_of(path)
    try:
        with create_beside(beside) as file:
            np.savez_compressed(file, **dict(arrays))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_arrays(path: Path) -> dict[str, Any]:
    """Read what :func:`write_arrays` wrote; empty where there is no such file or it is broken.

    Nothing in it is unpickled, whatever it says.
    """
    if not path.is_file():
        return {}
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def read_samples(file: Path) -> Samples:
    """Read the samples of one score; what does not fit together is left out."""
    stored = read_arrays(file)
    arrays = {name: stored.get(name) for name in _FIELDS}
    results, digests = arrays["results"], arrays["result_digests"]
    if results is not None and (results.ndim != 1 or results.dtype.kind not in "fiub"):
        results = None
    replicates = arrays["replicates"]
    if replicates is not None and (replicates.ndim != 1 or replicates.dtype.kind != "f"):
        replicates = None
    if digests is not None and (digests.ndim != 2 or digests.shape[1] != DIGEST):
        digests = None
    if results is not None and digests is not None and len(digests) != len(results):
        digests = None
    noise, agrees = arrays["noise"], arrays["agrees"]
    if noise is not None and noise.ndim != 2:
        noise = agrees = None
    return Samples(
        None if results is None else results.astype("float64"),
        digests if results is not None or replicates is not None else None,
        arrays["digests"],
        noise,
        agrees,
        None if replicates is None else replicates.astype("float64"),
    )


def align(first: Samples, second: Samples) -> tuple[Any, Any] | None:
    """Return both results in one order, by the content of the samples where that is known.

    Returns:
        Two arrays [samples]; None where the samples are not the same ones.
    """
    mine, others = first.results, second.results
    if mine is None or others is None or len(mine) != len(others):
        return None
    if first.result_digests is None or second.result_digests is None:
        # An evaluation that says nothing of its order is taken to keep it.
        return mine, others
    keys = [_keys(samples.result_digests) for samples in (first, second)]
    if (keys[0] == keys[1]).all():
        return mine, others
    orders = [key.argsort(kind="stable") for key in keys]
    if not (keys[0][orders[0]] == keys[1][orders[1]]).all():
        return None
    return mine[orders[0]], others[orders[1]]


def in_order(samples: Samples) -> Samples:
    """Return results and their digests in an order that the content of the samples decides."""
    if samples.results is None or samples.result_digests is None:
        return samples
    order = _keys(samples.result_digests).argsort(kind="stable")
    return Samples(samples.results[order], samples.result_digests[order])


def are_of_same_samples(first: Samples, second: Samples) -> bool:
    """Tell whether two scores are of the same samples, as far as their content is known."""
    if first.result_digests is None or second.result_digests is None:
        return True
    ones, others = first.result_digests, second.result_digests
    return ones.shape == others.shape and bool((ones == others).all())


def noise_as_results(samples: Samples) -> Samples:
    """Return the noise of each sample, mean over the outputs, as its result; empty if unknown."""
    import numpy as np

    if samples.noise is None:
        return Samples()
    known = np.isfinite(samples.noise)
    if not known.any(1).all():
        return Samples()
    mean = np.where(known, samples.noise, 0).sum(1) / known.sum(1)
    return Samples(mean.astype(np.float64), result_digests=samples.digests)


def _keys(digests: Any) -> Any:
    """Return the first half of each digest as a number: enough to tell samples apart."""
    return digests[:, :8].copy().view("<u8").ravel()
