"""The record of each sample: written, read, and put side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from espdl_quantize.stats import (
    DIGEST,
    Samples,
    align,
    noise_as_results,
    read_samples,
    write_arrays,
)

SAMPLES = "samples.npz"


def digests(*names: int) -> Any:
    return np.array([[name] * DIGEST for name in names], np.uint8)


def test_samples_come_back(tmp_path: Path) -> None:
    arrays = {"results": np.array([1.0, 0.0]), "result_digests": digests(1, 2)}
    arrays |= {"digests": digests(1), "noise": np.array([[0.5, np.nan]], np.float32)}
    write_arrays(tmp_path / SAMPLES, arrays)
    first = (tmp_path / SAMPLES).read_bytes()
    found = read_samples(tmp_path / SAMPLES)
    assert found.results.tolist() == [1.0, 0.0]
    assert noise_as_results(found).results.tolist() == [0.5]
    write_arrays(tmp_path / SAMPLES, arrays)
    assert (tmp_path / SAMPLES).read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [SAMPLES]


def test_what_is_broken_or_pickled_counts_as_absent(tmp_path: Path) -> None:
    assert read_samples(tmp_path / SAMPLES) == Samples()
    (tmp_path / SAMPLES).write_bytes(b"PK\x03\x04 half a file")
    assert read_samples(tmp_path / SAMPLES) == Samples()
    np.savez(tmp_path / SAMPLES, results=np.array([{"a": 1}], dtype=object))
    assert read_samples(tmp_path / SAMPLES) == Samples()
    np.savez(tmp_path / SAMPLES, results=np.ones((2, 2)), result_digests=digests(1))
    assert read_samples(tmp_path / SAMPLES) == Samples()


def test_a_shuffled_evaluation_is_put_in_order() -> None:
    one = Samples(np.array([1.0, 0.0, 1.0]), digests(1, 2, 3))
    two = Samples(np.array([0.0, 1.0, 1.0]), digests(2, 3, 1))
    pair = align(one, two)
    assert pair is not None
    assert pair[0].tolist() == pair[1].tolist()
    assert align(one, Samples(np.array([0.0, 1.0, 1.0]), digests(2, 3, 4))) is None
    assert align(one, Samples(np.array([0.0, 1.0]), digests(2, 3))) is None
    assert align(one, Samples()) is None
    plain = align(Samples(one.results), two)
    assert plain is not None
    assert plain[1].tolist() == [0.0, 1.0, 1.0]
