"""The benchmark of the signals, on made records and on the one that is kept."""

from __future__ import annotations

import numpy as np

from benchmarks.signals import TABLE, Record, judge, load, near_top, sign_agreement


def made(steps: int, images: int = 400) -> Record:
    """Settings that get better one by one, in a noise that follows them exactly."""
    random = np.random.default_rng(0)
    hard = random.random(images)
    right = np.stack([hard < 0.5 + 0.03 * step for step in range(steps)]).astype(float)
    noise = np.stack([np.full(images, 1.0 / (step + 1)) for step in range(steps)])
    return Record(right, right, noise)


def test_a_perfect_signal_finds_the_best() -> None:
    losses = judge(made(6), size=20, splits=50)
    assert losses["noise"] == losses["best of them"]
    assert np.mean(losses["metric"]) <= np.mean(losses["noise"])
    assert sign_agreement(made(6), size=20, splits=10)["noise"] == 1.0


def test_what_is_near_the_top() -> None:
    record = made(6)
    assert near_top(record.part([0, 5], range(400))).tolist() == [1]
    few = record.part([4, 5], range(20))
    assert near_top(few).tolist() == [0, 1]


def test_the_kept_record_says_what_the_readme_says() -> None:
    record = load(TABLE)
    assert record.right.shape == record.noise.shape == (42, 2000)
    assert TABLE.stat().st_size < 1_000_000
    losses = judge(record, size=250, splits=200)
    assert np.mean(losses["metric, ties by noise"]) > np.mean(losses["metric"])
