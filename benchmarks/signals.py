"""Which signal picks the better setting: choose on some images, judge on others.

    python -m benchmarks.signals [--table benchmarks/recorded/..._samples.npz] [--splits 2000]

The table is what benchmarks.signals_record wrote: of every setting and image, whether the class is
right, whether it is the float model's, and the noise at the output. Each split draws some settings,
as a search would have tried them, images to choose on, and as many of the others as there are to
judge on. A rule chooses one of the settings by the first; its accuracy on the second counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espdl_quantize.stats import mcnemar_exact, student_mean

TABLE = Path("benchmarks/recorded/fashion_mnist_esp32s3_samples.npz")
SIZES = (100, 250, 500, 1000)
SETTINGS = 12
"""Settings per split: what a short search has tried."""

LEVEL = 0.05


@dataclass(frozen=True)
class Record:
    """Arrays [settings, images].

    Attributes:
        right: 1 where the class is right.
        agrees: 1 where it is the float model's.
        noise: noise:signal power at the output.
    """

    right: Any
    agrees: Any
    noise: Any

    def part(self, settings: Any, images: Any) -> Record:
        """Return some settings on some images."""
        grid = np.ix_(settings, images)
        return Record(self.right[grid], self.agrees[grid], self.noise[grid])


def load(table: Path) -> Record:
    """Read the record; the settings are in the order of their keys."""
    with np.load(table) as stored:
        keys = sorted(name[:-6] for name in stored.files if name.endswith("/right"))
        arrays = [
            np.stack([stored[f"{key}/{name}"] for key in keys]).astype(np.float64)
            for name in ("right", "agrees", "noise")
        ]
    return Record(*arrays)


def near_top(seen: Record) -> Any:
    """Return the settings that McNemar's test cannot tell from the one with the most right."""
    top = int(seen.right.sum(1).argmax())
    near = []
    for at, right in enumerate(seen.right):
        wins, losses = (
            ((right - seen.right[top]) == 1).sum(),
            ((seen.right[top] - right) == 1).sum(),
        )
        if at == top or mcnemar_exact(int(wins), int(losses)) >= LEVEL:
            near.append(at)
    return np.array(near)


def _tied(seen: Record, height: Any) -> int:
    near = near_top(seen)
    return int(near[height[near].argmax()])


RULES: dict[str, Callable[[Record], int]] = {
    "metric": lambda seen: int(seen.right.sum(1).argmax()),
    "noise": lambda seen: int((-seen.noise.mean(1)).argmax()),
    "agreement": lambda seen: int(seen.agrees.sum(1).argmax()),
    "metric, ties by noise": lambda seen: _tied(seen, -seen.noise.mean(1)),
    "metric, ties by agreement": lambda seen: _tied(seen, seen.agrees.sum(1)),
}
"""How each chooses a setting by what was seen of it."""


def judge(record: Record, size: int, splits: int, seed: int = 0) -> dict[str, list[float]]:
    """Return, by rule, the accuracy in percent of what it chose, on the other images of a split."""
    random = np.random.default_rng(seed)
    count, images = record.right.shape
    losses: dict[str, list[float]] = {name: [] for name in (*RULES, "best of them")}
    for _ in range(splits):
        settings = random.choice(count, min(SETTINGS, count), replace=False)
        order = random.permutation(images)
        seen = record.part(settings, order[:size])
        judged = 100.0 * record.right[np.ix_(settings, order[images // 2 :])].mean(1)
        for name, choose in RULES.items():
            losses[name].append(float(judged[choose(seen)]))
        losses["best of them"].append(float(judged.max()))
    return losses


def sign_agreement(record: Record, size: int, splits: int, seed: int = 0) -> dict[str, float]:
    """Return how often a signal says of two settings which is right more often on other images.

    Pairs that are equal on those count for nothing; a signal that calls them equal counts half.
    """
    random = np.random.default_rng(seed)
    count, images = record.right.shape
    first, second = np.triu_indices(count, 1)
    hits: dict[str, list[float]] = {"metric": [], "noise": [], "agreement": []}
    for _ in range(splits):
        order = random.permutation(images)
        seen = record.part(np.arange(count), order[:size])
        truth = record.right[:, order[images // 2 :]].sum(1)
        wanted = np.sign(truth[first] - truth[second])
        for name, height in (
            ("metric", seen.right.sum(1)),
            ("noise", -seen.noise.mean(1)),
            ("agreement", seen.agrees.sum(1)),
        ):
            said = np.sign(height[first] - height[second])
            known = wanted != 0
            hits[name].append(float(((1 + said * wanted) / 2)[known].mean()))
    return {name: float(np.mean(values)) for name, values in hits.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--splits", type=int, default=2000)
    chosen = parser.parse_args(arguments)
    record = load(chosen.table)
    print(f"{record.right.shape[0]} settings, {record.right.shape[1]} images")
    head = " | ".join(f"{size} images" for size in SIZES)
    print(f"\n| rule | {head} |")
    print("|---|" + "---|" * len(SIZES))
    judged = {size: judge(record, size, chosen.splits) for size in SIZES}
    for name in (*RULES, "best of them"):
        cells = []
        for size in SIZES:
            loss, metric = np.array(judged[size][name]), np.array(judged[size]["metric"])
            cell = f"{loss.mean():.3f}"
            if name != "metric":
                interval = student_mean([float(difference) for difference in loss - metric])
                cell += f" ({loss.mean() - metric.mean():+.3f}, "
                cell += f"{interval.low:+.3f} to {interval.high:+.3f})"
            cells.append(cell)
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(
        "\n| says which of two is better | " + " | ".join(f"{size} images" for size in SIZES) + " |"
    )
    print("|---|" + "---|" * len(SIZES))
    signs = {size: sign_agreement(record, size, chosen.splits // 10) for size in SIZES}
    for name in ("metric", "noise", "agreement"):
        print(f"| {name} | " + " | ".join(f"{signs[size][name]:.1%}" for size in SIZES) + " |")


if __name__ == "__main__":
    main()
