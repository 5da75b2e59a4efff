"""Wall times of one search of a contract by so many workers of a local Ray, in turn.

    python -m benchmarks.at_once --contract examples/fashion_mnist/user_quant.py
        [--slots 1 2] [--iterations 6] [--repeat 2] [--strategy seed] [--work FOLDER]

Slots of 0 are ``tune`` without Ray. Each search starts from an empty folder, and its time is that
from the command to the last iteration, the start of Ray and of the workers included; what ends them
is apart. ``alike`` counts the iterations whose files of the model and its scores are the bytes that
the first search has for the same setting. torch computes on as many threads as the environment
says (``OMP_NUM_THREADS``), and with N slots on the N-th part of the cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from espdl_quantize.core import Strategy
from espdl_quantize.record import read_history
from espdl_quantize.record.files import LAYERWISE, METRICS, MODEL
from espdl_quantize.setting import setting_key
from espdl_quantize.tuning import Budget, IsolatedBackend, RayBackend, TuneOptions, tune

FILES = (MODEL, METRICS, LAYERWISE)
"""What an iteration without analyses has not, is of no bytes."""

Contents = Mapping[str, tuple[bytes, ...]]
"""Of the iterations in a folder, by the key of the setting."""


def search(contract: Path, outputs: Path, slots: int, options: TuneOptions) -> tuple[float, float]:
    """Search an empty folder; return the seconds that this and that its end took."""
    begun = time.monotonic()
    with ExitStack() as stack:
        backend = (
            stack.enter_context(RayBackend(contract, slots=slots))
            if slots
            else stack.enter_context(IsolatedBackend(contract))
        )
        tune(backend, outputs, options)
        ended = time.monotonic()
    return ended - begun, time.monotonic() - ended


def contents(outputs: Path) -> Contents:
    """Read what two searches have to agree on."""
    return {
        setting_key(each.setting): tuple(_bytes(each.folder / name) for name in FILES)
        for each in read_history(outputs).scored
        if each.setting is not None and each.folder is not None
    }


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def alike(one: Contents, other: Contents) -> str:
    """Return how many iterations have equal bytes, of those that both have."""
    both = one.keys() & other.keys()
    return f"{sum(one[key] == other[key] for key in both)} of {len(both)}"


def main() -> None:
    """Print a line per search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contract", type=Path, required=True)
    parser.add_argument("--slots", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--strategy", choices=list(Strategy), default=Strategy.SWIFT)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="at-once-"))
    first: Contents | None = None
    print("| slots | iterations | s | s to end | alike | load of the machine before |")
    print("|---|---|---|---|---|---|")
    for turn in range(options.repeat):
        for slots in options.slots:
            outputs = work / f"{turn}-{slots}"
            load = os.getloadavg()[0]
            how = TuneOptions(Budget(options.iterations), strategy=options.strategy)
            seconds, end = search(options.contract.resolve(), outputs, slots, how)
            made = contents(outputs)
            first = first or made
            print(
                f"| {slots or 'without Ray'} | {len(made)} | {seconds:.1f} | {end:.1f} | "
                f"{alike(first, made)} | {load:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
