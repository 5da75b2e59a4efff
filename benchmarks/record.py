"""Record a search space with the real engine, for comparing policies in seconds.

    python -m benchmarks.record --contract examples/fashion_mnist/user_quant.py \
        --outputs outputs/space --table recorded.zip [--iterations 28]

Every policy searches the whole way on its own, from the baseline on, without stopping at a plateau
or a target; what one has run already is replayed to the next. The table is the union of what they
ran, so that none is judged only on what another chose. May be interrupted and run again.

    python -m benchmarks.record --pack zoo/demo-*/outputs --table recorded.zip

makes a table of what other searches of one contract have run, such as those of the zoo.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.policies import without_target
from espdl_quantize.contract import load_contract
from espdl_quantize.core import Progress
from espdl_quantize.iteration import RunOptions
from espdl_quantize.ppq import target_names
from espdl_quantize.record import IterationRecord
from espdl_quantize.search.policies import POLICIES
from espdl_quantize.setting import Setting, setting_key
from espdl_quantize.tuning import (
    BackendFacts,
    Budget,
    Observer,
    RealBackend,
    RecordedBackend,
    Status,
    TuneOptions,
    pack,
    tune,
)


class _Remembering:
    """Runs a setting for real, unless it was run before."""

    def __init__(self, real: RealBackend, recorded: RecordedBackend | None) -> None:
        self._real, self._recorded = real, recorded

    @property
    def facts(self) -> BackendFacts:
        """The real facts, with a target that nothing reaches."""
        return without_target(self._real.facts)

    def run(self, setting: Setting, folder: Path, progress: Progress, **_: Any) -> IterationRecord:
        """Replay, or run in full, since what is recorded serves every search."""
        recorded = self._recorded
        if recorded is not None and setting_key(setting) in recorded.table.settings:
            return recorded.run(setting, folder, progress)
        return self._real.run(setting, folder, progress)


class _Line(Observer):
    def iteration_started(self, status: Status) -> None:
        """Print what runs."""
        print(
            f"  iter_{status.proposal.setting.iteration_id}: {status.proposal.pattern}", flush=True
        )


def record_space(
    contract: Path, outputs: Path, table: Path, policies: Sequence[str], iterations: int
) -> int:
    """Search with each policy in turn; return how many settings the table has."""
    real = RealBackend(
        load_contract(contract, target_names()), RunOptions(stop_without_effect=False)
    )
    folders: list[Path] = []
    count = 0
    for policy in policies:
        print(policy, flush=True)
        recorded = RecordedBackend(table) if folders else None
        folder = outputs / policy
        folder.mkdir(parents=True, exist_ok=True)
        have = len(list(folder.glob("iter_*")))
        if have < iterations:
            options = TuneOptions(Budget(iterations - have), policy=policy, ignore_plateau=True)
            tune(_Remembering(real, recorded), folder, options, observer=_Line())
        folders.append(folder)
        count = pack(folders, table)
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """Record and say how much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contract", type=Path)
    parser.add_argument("--outputs", type=Path, help="one folder per policy")
    parser.add_argument("--pack", type=Path, nargs="+", help="output folders; runs nothing")
    parser.add_argument("--table", type=Path, required=True, help="the zip to write")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--iterations", type=int, default=28, help="of each policy")
    chosen = parser.parse_args(arguments)
    if chosen.pack:
        count = pack(chosen.pack, chosen.table)
    elif chosen.contract is None or chosen.outputs is None:
        parser.error("give --contract and --outputs, or --pack")
    else:
        count = record_space(
            chosen.contract, chosen.outputs, chosen.table, chosen.policies, chosen.iterations
        )
    print(f"{count} settings in {chosen.table}, {chosen.table.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
