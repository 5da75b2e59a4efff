"""What the widths come to on a network: 8 bits, lever 3e, groups of ops, w8a16, 16 bits.

    python -m benchmarks.widths --contract examples/fashion_mnist_swish/user_quant.py --chip esp32s3

Each is one iteration; 3e and 3i are the settings that these levers make of the first. Scores are
the contract's, and differences are paired with the baseline's on the same samples; noise is of the
outputs against the float model's; milliseconds are predicted. The chip reaches the contract as
ESPDL_TARGET. --max-latency-ms is the budget that 3i keeps to.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espdl_quantize.contract import load_contract
from espdl_quantize.core import NoProgress
from espdl_quantize.iteration import Prepared, RunOptions, run_iteration
from espdl_quantize.record import Budgets, Iteration, read_history
from espdl_quantize.report import look
from espdl_quantize.search import SearchOptions, SearchState
from espdl_quantize.search.levers import LEVERS
from espdl_quantize.setting import Setting, baseline

WHOLE: Mapping[str, Mapping[str, Any]] = {
    "w8a16": {"width": "w8a16", "calib_algorithm": "minmax"},
    "16 bits": {"width": 16, "calib_algorithm": "minmax"},
}
"""Settings of all ops, with 16-bit activations."""


class _Timed(NoProgress):
    """Notes how long the groups take to be measured."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def stage(self, name: str) -> Any:
        return _Clock(self) if name == "widths" else super().stage(name)


class _Clock:
    def __init__(self, owner: _Timed) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._owner.seconds = time.perf_counter() - self._started


def settings_of(outputs: Path, most_ms: float | None) -> Iterator[tuple[str, Setting]]:
    """Yield what to run, one after the other: each may go by the iterations before it."""
    yield "int8", baseline(0)
    options = SearchOptions(budgets=Budgets(max_latency_ms=most_ms) if most_ms else None)
    first: SearchState = look(outputs, options).state
    for lever in ("3e", "3i"):
        judgement = LEVERS[lever].applies(first)
        print(f"{lever}: {judgement.reason}")
        if judgement.applies:
            yield lever, LEVERS[lever].change(first)
    for name, fields in WHOLE.items():
        yield name, baseline(0).model_copy(update=dict(fields))


def row_of(name: str, record: Iteration, plain: Iteration, outputs: Path, seconds: float) -> str:
    """Return one line of the table."""
    history = read_history(outputs)
    versus = history.versus(record, plain) if record.id != plain.id else None
    cost, signals = record.cost, record.signals
    delta = "" if versus is None else f"{versus.low:+.2f} to {versus.high:+.2f}"
    noise = None if signals is None else signals.noise_signal
    return " | ".join(
        (
            f"| {name}",
            "" if record.value is None else f"{record.value:.2f}",
            delta,
            "" if noise is None else f"{noise:.2g}",
            "" if cost is None or cost.ms is None else f"{cost.ms:.3f}",
            "" if cost is None or cost.ram_bytes is None else f"{cost.ram_bytes / 1024:.1f}",
            "" if cost is None else f"{len(cost.wide_ops)}",
            f"{seconds:.1f} |",
        )
    )


def main() -> None:
    """Run them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contract", type=Path, required=True)
    parser.add_argument("--chip", default="esp32s3")
    parser.add_argument("--max-latency-ms", type=float)
    parser.add_argument("--outputs", type=Path)
    options = parser.parse_args()
    os.environ["ESPDL_TARGET"] = options.chip
    with tempfile.TemporaryDirectory() as scratch:
        outputs: Path = options.outputs or Path(scratch)
        rows = []
        with Prepared(load_contract(options.contract, [options.chip])) as prepared:
            for number, (name, setting) in enumerate(settings_of(outputs, options.max_latency_ms)):
                timed = _Timed()
                folder = outputs / f"iter_{number}"
                run = setting.model_copy(update={"iteration_id": number})
                run_iteration(prepared.contract, run, folder, RunOptions(), timed, prepared)
                records = read_history(outputs).iterations
                rows.append(row_of(name, records[-1], records[0], outputs, timed.seconds))
                print(rows[-1], flush=True)
    print(
        "| setting | score | to int8, 95 % | noise | ms | RAM KiB | 16-bit layers | measuring s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
