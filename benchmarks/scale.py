"""How far a search gains by running iterations at once, on recorded iterations and their times.

    python -m benchmarks.scale --table recorded.zip [--strategy swift]
        [--slots 1 2 4 8 16 32 64] [--iterations 40]

Each row is one search by the loop of ``tune`` over a table that was recorded one iteration at a
time, on so many slots: an iteration ends when it would have on a device of its own. Nothing is
computed, so that contention for one machine's memory and disk, and the time that Ray takes, are not
in it. ``to 90 %`` is the time until the best so far has nine tenths of the best known gain, ``all``
the time of all iterations; speed-ups are against one slot; ``idle`` is the share of the slots' time
in which they waited for a race to end.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.policies import SHARE, best_known_gain, without_target
from espdl_quantize.core import Strategy
from espdl_quantize.record import History, Iteration
from espdl_quantize.tuning import (
    BackendFacts,
    Budget,
    Observer,
    RecordedBackend,
    TuneOptions,
    tune,
)

SLOTS = (1, 2, 4, 8, 16, 32, 64)


class _Cluster(RecordedBackend):
    """Does not stop at the target, so that every search has the same number of iterations."""

    @property
    def facts(self) -> BackendFacts:
        """The recorded facts, with a target that nothing reaches."""
        return without_target(super().facts)


class _Marks(Observer):
    """Notes when the best so far has reached a gain.

    Args:
        gain: over the first iteration.
        clock: seconds.
    """

    def __init__(self, gain: float, clock: Callable[[], float]) -> None:
        self._gain, self._clock = gain, clock
        self.reached: float | None = None
        self.gain = 0.0
        self.ended = 0

    def iteration_ended(self, iteration: Iteration, history: History) -> None:
        """Note one."""
        self.ended += 1
        first = history.iterations[0]
        heights = [history.height(row) for row in history.scored]
        self.gain = max(heights) - history.height(first)
        if self.reached is None and self.gain >= self._gain:
            self.reached = self._clock()


@dataclass(frozen=True)
class Scaled:
    """One search.

    Attributes:
        slots: that it ran on.
        reached: seconds to the wanted gain; None where it never came.
        seconds: from begin to end.
        idle: the share of the slots' time in which they had nothing to do.
        iterations: that were run.
        gain: of the best over the baseline.
    """

    slots: int
    reached: float | None
    seconds: float
    idle: float
    iterations: int
    gain: float


def search(table: Path, strategy: Strategy, slots: int, iterations: int, gain: float) -> Scaled:
    """Search a table once.

    Args:
        table: what :func:`espdl_quantize.tuning.pack` wrote.
        strategy: whose rules decide.
        slots: iterations at once.
        iterations: the budget.
        gain: that is waited for.
    """
    backend = _Cluster(table, slots=slots)
    marks = _Marks(gain, backend.clock)
    options = TuneOptions(
        Budget(iterations),
        strategy=strategy,
        ignore_plateau=True,
        final=False,
        # A table has what failed, too.
        same_failures=iterations,
    )
    with tempfile.TemporaryDirectory() as outputs:
        tune(backend, Path(outputs), options, observer=marks, clock=backend.clock)
    seconds = backend.clock()
    idle = 1 - backend.busy / (slots * seconds)
    return Scaled(slots, marks.reached, seconds, idle, marks.ended, marks.gain)


def rows_of(runs: Sequence[Scaled]) -> list[list[str]]:
    """Return one row of text per search; the first one is what the others are held against."""
    first = runs[0]
    rows = []
    for run in runs:
        reached, sooner = "-", "-"
        if run.reached is not None:
            reached = f"{run.reached:.0f} s"
            sooner = "-" if first.reached is None else f"{first.reached / run.reached:.1f}"
        rows.append(
            [
                str(run.slots),
                reached,
                sooner,
                f"{run.seconds:.0f} s",
                f"{first.seconds / run.seconds:.1f}",
                f"{run.idle:.0%}",
                f"{run.gain:.4g}",
            ]
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="what tune.pack wrote")
    parser.add_argument("--slots", nargs="+", type=int, default=list(SLOTS))
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--strategy", type=Strategy, default=Strategy.SEED, choices=list(Strategy))
    chosen = parser.parse_args(arguments)
    known = best_known_gain(chosen.table)
    head = ["at once", f"to {SHARE:.0%}", "speed-up", "all", "speed-up", "idle", "gain"]
    print(f"{chosen.strategy}: best known gain {known:.4g}, {chosen.iterations} iterations\n")
    runs = [
        search(chosen.table, chosen.strategy, slots, chosen.iterations, SHARE * known)
        for slots in chosen.slots
    ]
    for row in (head, ["---"] * len(head), *rows_of(runs)):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
