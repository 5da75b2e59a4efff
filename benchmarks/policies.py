"""Which policy of open exploration finds more, on recorded iterations.

    python -m benchmarks.policies --table recorded.zip [--policies evidence optuna] [--seeds 5]

Every policy replays the same table from the baseline on, with a budget and without stopping at a
plateau or a target: once as ``tune`` does, where the calibration sweep and the levers come first
and are the same for all of them, and once alone, deciding everything after the baseline. Gains are
of the primary metric over the recorded baseline; the best known gain is that of the best recorded
setting.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from espdl_quantize.core import Direction, IterationError, NoProgress
from espdl_quantize.record import History, LazyEvidence, read_history
from espdl_quantize.search import SearchOptions, SearchState
from espdl_quantize.search.policies import POLICIES, make_policy
from espdl_quantize.setting import Setting, baseline, setting_key
from espdl_quantize.tuning import (
    BackendFacts,
    Budget,
    Observer,
    RecordedBackend,
    TuneOptions,
    tune,
)

SHARE = 0.9
MARKS = (10, 20)
Search = Callable[[Path, str, int, int], "Trace"]


def without_target(facts: BackendFacts) -> BackendFacts:
    """Return the facts with a target that nothing reaches."""
    return replace(facts, target=float("inf") if facts.direction == "max" else float("-inf"))


class _WithoutTarget(RecordedBackend):
    """Does not stop at the target, so that every policy has the same number of iterations."""

    @property
    def facts(self) -> BackendFacts:
        """The recorded facts, with a target that nothing reaches."""
        return without_target(super().facts)


@dataclass(frozen=True)
class Trace:
    """One search: the gain of the best so far after each iteration."""

    gains: tuple[float, ...]

    def reached(self, gain: float) -> int | None:
        """Return how many iterations it took to a gain."""
        return next((i for i, value in enumerate(self.gains, 1) if value >= gain), None)

    def after(self, count: int) -> float:
        """Return the gain after so many iterations, or at the end of a shorter search."""
        return self.gains[min(count, len(self.gains)) - 1]


def replay_alone(table: Path, name: str, seed: int, iterations: int) -> Trace:
    """Search the table once, with the policy deciding everything after the baseline."""
    backend, policy = _WithoutTarget(table), make_policy(name)
    options = SearchOptions(
        target=backend.facts.target,
        priority=backend.facts.priority,
        user_budget=True,
        seed=seed,
        pool=backend.facts.pool,
        disciplined=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        setting: Setting | None = baseline()
        for number in range(iterations):
            if setting is None:
                break
            numbered = setting.model_copy(update={"iteration_id": number})
            with contextlib.suppress(IterationError):
                backend.run(numbered, outputs / f"iter_{number}", NoProgress())
            history = read_history(outputs)
            proposal = policy.propose(SearchState.of(history, LazyEvidence(history), options))
            setting = None if proposal is None else proposal.setting
        history = read_history(outputs)
        return Trace(tuple(_best_gains(history)))


def replay(table: Path, policy: str, seed: int, iterations: int) -> Trace:
    """Search the table once."""
    backend = _WithoutTarget(table)
    options = TuneOptions(Budget(iterations), policy=policy, seed=seed, ignore_plateau=True)
    with tempfile.TemporaryDirectory() as outputs:
        history = tune(backend, Path(outputs), options, observer=Observer()).history
    return Trace(tuple(_best_gains(history)))


def best_known_gain(table: Path) -> float:
    """Return what the best recorded setting gains over the recorded baseline.

    Raises:
        SystemExit: the table has no scored baseline.
    """
    records = RecordedBackend(table).table.records
    plain = records.get(setting_key(baseline()))
    if plain is None or plain.value is None:
        raise SystemExit(f"{table} has no baseline with a score")
    sign = 1 if plain.direction == Direction.MAX else -1
    values = [record.value for record in records.values()]
    return float(max(sign * (value - plain.value) for value in values if value is not None))


def compare(
    table: Path, policies: Sequence[str], seeds: int, iterations: int, search: Search
) -> list[list[str]]:
    """Return one row of text per policy."""
    known = best_known_gain(table)
    rows = []
    for name in policies:
        traces = [search(table, name, seed, iterations) for seed in range(seeds)]
        reached = [trace.reached(SHARE * known) for trace in traces]
        hits = [count for count in reached if count is not None]
        rows.append(
            [
                name,
                f"{mean(hits):.1f}" if hits else "-",
                f"{len(hits)}/{seeds}",
                *(f"{mean(trace.after(mark) for trace in traces):.4g}" for mark in MARKS),
            ]
        )
    return rows


def _best_gains(history: History) -> list[float]:
    first = history.iterations[0]
    gains, best = [], 0.0
    for row in history.iterations:
        if row.value is not None and first.value is not None:
            best = max(best, history.height(row) - history.height(first))
        gains.append(best)
    return gains


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="what tune.pack wrote")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=max(MARKS))
    chosen = parser.parse_args(arguments)
    known = best_known_gain(chosen.table)
    count = len(RecordedBackend(chosen.table).table.settings)
    print(f"{count} recorded settings, best known gain {known:.4g}, {chosen.seeds} seeds")
    head = ["policy", f"iterations to {SHARE:.0%}", "reached", *(f"gain at {m}" for m in MARKS)]
    for title, search in (("after the levers, as in tune", replay), ("alone", replay_alone)):
        print(f"\n{title}")
        rows = [head]
        rows += compare(chosen.table, chosen.policies, chosen.seeds, chosen.iterations, search)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
