"""``espdl-quantize cost``: what a model costs on the chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize.cli._options import AsJson


def cost(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL.ESPDL|OUTPUTS",
            help="A model, one iteration's folder, or an output folder with all of its iterations.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="The chip; an .espdl does not say it, an iteration's folder does."),
    ] = None,
    cores: Annotated[int, typer.Option(min=1, max=2, help="How many cores run it.")] = 1,
    weights_in_flash: Annotated[
        bool,
        typer.Option(
            "--weights-in-flash",
            help="The weights stay in flash (param_copy false) instead of being copied to PSRAM.",
        ),
    ] = False,
    internal: Annotated[
        int,
        typer.Option(min=0, help="KiB of internal RAM for activations (max_internal_size)."),
    ] = 0,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Constants that were calibrated on your board, as JSON."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a model costs on the chip: flash, RAM, and milliseconds per layer and in all.

    RAM is planned as ESP-DL does it. Milliseconds are predicted from published figures, with an
    interval that holds nine of ten models; they are no measurement.
    """
    from espdl_quantize.cli._cost_work import tell_cost

    tell_cost(model, target, cores, weights_in_flash, internal, calibration, as_json)


def add_cost(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(cost)
