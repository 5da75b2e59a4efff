"""What ``final`` and ``repeat`` do and print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from espdl_quantize.cli._backend import ProcessOptions, backend_of
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.core import (
    EXIT_OK,
    EXIT_REFUSED,
    EspdlQuantizeError,
    InterruptedCommandError,
    OutputFolderError,
    Progress,
    dumps,
)
from espdl_quantize.iteration import RunOptions
from espdl_quantize.ppq import Engine
from espdl_quantize.record import locked, read_history
from espdl_quantize.report import final_lines, final_of
from espdl_quantize.setting import baseline, load_setting
from espdl_quantize.tune import AuxiliaryBackend, Draws, repeat, take_final

_NOTHING_TO_TAKE = (
    "nothing to take: the contract has only evaluate(), and that score chose the best; for one of "
    "images that take no part in the search, define evaluate_final() before the first iteration "
    "(in a new output folder)"
)


def score_finally(
    contract: Path,
    outputs: Path,
    again: bool,
    process: ProcessOptions,
    as_json: bool,
    progress_lines: Path | None,
) -> None:
    """Take the final scores of an output folder, print them and exit with 1 where they failed.

    Where the contract has no function for them, that is told, and is no failure.

    Raises:
        EspdlQuantizeError: whatever stopped it.
    """
    if not outputs.is_dir():
        raise OutputFolderError(f"{outputs} is no folder", "give the one that holds iter_0")
    contract, outputs = whole(contract), whole(outputs)
    history = read_history(outputs)
    if history.best is None:
        raise EspdlQuantizeError(f"{outputs} has no iteration with a score", "run one first")
    with (
        shown(as_json, whole_if_given(progress_lines)) as progress,
        backend_of(contract, RunOptions(), process, progress) as backend,
        locked(outputs),
    ):
        take_final(backend, history, progress, _sayer(progress), again=again)
        is_there_any = backend.facts.final_by is not None
    history = read_history(outputs)
    found = final_of(history)
    if not found["taken"] and not is_there_any:
        # Nothing is wrong: a contract need not have a function of its own for this.
        print(dumps({**found, "told": [_NOTHING_TO_TAKE]}) if as_json else _NOTHING_TO_TAKE)
        sys.exit(EXIT_OK)
    print(dumps(found) if as_json else "\n".join(final_lines(history)), end="" if as_json else "\n")
    if not as_json and found["taken"]:
        print("'espdl-quantize compare --finalize' puts it into the reports")
    sys.exit(EXIT_OK if found["taken"] else EXIT_REFUSED)


def repeat_setting(
    contract: Path,
    setting: Path | None,
    draws: int,
    outputs: Path,
    seed: int,
    engine: Engine,
    process: ProcessOptions,
    as_json: bool,
    progress_lines: Path | None,
) -> None:
    """Score a setting over draws of the calibration data, and print the spread.

    Raises:
        InterruptedCommandError: the user interrupted it.
        EspdlQuantizeError: whatever stopped it.
    """
    contract, outputs = whole(contract), whole(outputs)
    asked = baseline(num_of_bits=None) if setting is None else load_setting(setting)
    try:
        with (
            shown(as_json, whole_if_given(progress_lines)) as progress,
            backend_of(contract, RunOptions(engine=engine), process, progress) as backend,
            locked(outputs),
        ):
            assert isinstance(backend, AuxiliaryBackend)
            found = repeat(backend, outputs, asked, draws, seed, progress, _sayer(progress))
    except KeyboardInterrupt:
        raise InterruptedCommandError(
            "interrupted; the draws that are done are kept", "run the same command again"
        ) from None
    if as_json:
        print(dumps(found.summary()), end="")
    else:
        _print(found)


def _print(found: Draws) -> None:
    console, summary = Console(highlight=False), found.summary()
    metric = found.iterations[0].metric or "metric"
    table = Table()
    for column in ("draw", metric, "output noise"):
        table.add_column(escape(column), justify="right")
    for draw in summary["draws"]:
        noise = draw["noise_signal"]
        value = f"{draw['primary_value']:.6g}"
        table.add_row(str(draw["draw"]), value, "-" if noise is None else f"{noise:.3g}")
    console.print(table)
    low, high = summary["interval_of_the_mean"]
    console.print(spread(summary, low, high))
    console.print(escape(f"draws: {found.folder}"))


def spread(summary: dict[str, Any], low: float, high: float) -> str:
    """Write the mean of the draws and how far they lie apart, in digits that tell them apart."""
    count, mean = len(summary["draws"]), summary["mean"]
    if summary["lowest"] == summary["highest"]:
        return f"all {count} draws scored {mean:.6g}: no spread"
    digits = next((n for n in range(4, 17) if f"{low:.{n}g}" != f"{high:.{n}g}"), 17) + 1
    return (
        f"mean {mean:.{max(6, digits)}g} (95 % {low:.{digits}g} to {high:.{digits}g}), standard "
        f"deviation {summary['standard_deviation']:.3g}, from {summary['lowest']:.6g} to "
        f"{summary['highest']:.6g} over {count} draws"
    )


def _sayer(progress: Progress) -> Callable[[str], None]:
    say: Callable[[str], None] = getattr(progress, "say", lambda _: None)
    return say
