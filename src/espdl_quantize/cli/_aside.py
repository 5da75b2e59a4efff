"""``espdl-quantize final`` and ``repeat``: scores beside the search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize.cli._options import (
    AsJson,
    ContractPath,
    EngineName,
    InProcess,
    IterationLimit,
    OutputFolder,
    ProgressJson,
)
from espdl_quantize.core import Engine


def final(
    contract: ContractPath,
    output_dir: OutputFolder = Path("outputs"),
    again: Annotated[bool, typer.Option("--again", help="Score what was scored, too.")] = False,
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    progress_json: ProgressJson = None,
    as_json: AsJson = False,
) -> None:
    """Take the final score of best and of the baseline, which 'tune' does at its end.

    It is by the contract's evaluate_final, on images that the search never scores; without one, by
    evaluate where the search scored by evaluate_fast. Each model is quantized once more and held
    against the iteration's, byte for byte.
    """
    from espdl_quantize.cli._aside_work import score_finally
    from espdl_quantize.cli._backend import ProcessOptions

    process = ProcessOptions.of(iteration_limit, in_process)
    score_finally(contract, output_dir, again, process, as_json, progress_json)


def repeat(
    contract: ContractPath,
    setting: Annotated[
        Path | None, typer.Option(help="A JSON setting; without it, the baseline.")
    ] = None,
    draws: Annotated[int, typer.Option(help="How many draws of the calibration data.")] = 5,
    output_dir: OutputFolder = Path("outputs"),
    seed: Annotated[int, typer.Option(help="Of the draws and of every random generator.")] = 0,
    engine: EngineName = "fast",
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    progress_json: ProgressJson = None,
    as_json: AsJson = False,
) -> None:
    """Measure how much a score moves with the draw of the calibration images.

    A draw mixes all images that the loader gives, or resamples them where it gives few more than
    calibration reads. Draws lie in OUTPUT_DIR/repeat; what was interrupted goes on.
    """
    from espdl_quantize.cli._aside_work import repeat_setting
    from espdl_quantize.cli._backend import ProcessOptions

    process = ProcessOptions.of(iteration_limit, in_process)
    repeat_setting(
        contract, setting, draws, output_dir, seed, Engine(engine), process, as_json, progress_json
    )


def add_commands(app: typer.Typer) -> None:
    """Register both."""
    app.command()(final)
    app.command()(repeat)
