"""``espdl-quantize repeat``: how much a score moves with the draw of the calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import (
    AsJson,
    ContractPath,
    EngineName,
    InProcess,
    IterationLimit,
    OutputFolder,
    ProgressJson,
)
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import say_of, shown
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import Engine, InterruptedCommandError, dumps

if TYPE_CHECKING:
    from espdl_quantize.tuning import Draws


def repeat(
    *,
    contract: ContractPath,
    setting: Annotated[
        Path | None, typer.Option(help="A JSON setting; without it, the baseline.")
    ] = None,
    draws: Annotated[int, typer.Option(help="How many draws of the calibration data.")] = 5,
    output_dir: OutputFolder = Path("outputs"),
    seed: Annotated[int, typer.Option(help="Of the draws and of every random generator.")] = 0,
    engine: EngineName = Engine.FAST,
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    progress_json: ProgressJson = None,
    as_json: AsJson = False,
) -> None:
    """Measure how much a score moves with the draw of the calibration data.

    A draw mixes all samples that the loader gives, or resamples them where it gives few more than
    calibration reads. Draws lie in OUTPUT_DIR/repeat; what was interrupted goes on.
    """
    from espdl_quantize.cli._backend import ProcessOptions, backend_of, chip_of
    from espdl_quantize.iteration import RunOptions
    from espdl_quantize.record import locked
    from espdl_quantize.setting import baseline, load_setting
    from espdl_quantize.tuning import AuxiliaryBackend
    from espdl_quantize.tuning import repeat as repeat_setting

    process = ProcessOptions.of(iteration_limit, in_process=in_process)
    contract, outputs = whole(contract), whole(output_dir)
    chosen = baseline(num_of_bits=None) if setting is None else load_setting(setting)
    try:
        with (
            shown(whole_if_given(progress_json), as_json=as_json) as progress,
            backend_of(
                contract,
                RunOptions(engine=engine),
                process,
                progress,
                overrides=chip_of(outputs),
            ) as backend,
            locked(outputs),
        ):
            assert isinstance(backend, AuxiliaryBackend)
            repeated = repeat_setting(
                backend, outputs, chosen, draws, seed, progress, say_of(progress)
            )
    except KeyboardInterrupt:
        raise InterruptedCommandError(
            "interrupted; the draws that are done are kept", "run the same command again"
        ) from None
    if as_json:
        print(dumps(repeated.summary()), end="")
    else:
        _print(repeated)


def _print(draws: Draws) -> None:
    console, summary = Console(highlight=False), draws.summary()
    metric = draws.iterations[0].metric or "metric"
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
    console.print(escape(f"draws: {draws.folder}"))


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
