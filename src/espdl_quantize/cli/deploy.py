"""``espdl-quantize deploy`` and ``device-log``: to a board, and back with what it measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espdl_quantize.cli._options import AsJson, OutputFolder, version_of_esp_dl
from espdl_quantize.cli._progress import shown
from espdl_quantize.core import EXIT_OK, EXIT_REFUSED

if TYPE_CHECKING:
    from espdl_quantize.record import Measurement

_SLOWEST = 10


def deploy(
    *,
    outputs: Annotated[
        Path, typer.Argument(help="The output folder, whose best is taken, or an iteration's.")
    ],
    project: Annotated[
        Path, typer.Option(metavar="DIR", help="A new or empty folder for the project.")
    ],
    chip: Annotated[
        str | None,
        typer.Option(
            help="Build for this chip of the same family; else for the one of the contract, which "
            "must be named where that is 'c'."
        ),
    ] = None,
    esp_dl_version: Annotated[
        str | None,
        typer.Option(
            metavar="X.Y.Z",
            help="Of ESP-DL; else the one that the model was made for, and else 3.3.9, which this "
            "program was held against.",
            callback=version_of_esp_dl,
        ),
    ] = None,
    flash: Annotated[
        int | None, typer.Option(metavar="MIB", help="Flash of the board; else as is usual.")
    ] = None,
    psram: Annotated[
        int | None,
        typer.Option(
            metavar="MIB", min=0, help="PSRAM of the board, 0 for none; else as is usual."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an ESP-IDF project that loads, tests, profiles and times a model on its chip.

    Its README has the five commands from there to numbers of a board.
    """
    from espdl_quantize.cli.terminal import say
    from espdl_quantize.core import dumps

    # Loading esp-ppq, which reads the file, takes most of the time, and it greets on stdout.
    with shown(None, as_json=as_json) as progress, progress.stage("write the project"):
        from espdl_quantize.deploy import ProjectOptions
        from espdl_quantize.iteration import captured
        from espdl_quantize.report import deploy as deploy_model

        options = ProjectOptions(chip, esp_dl_version, flash, psram)
        with captured(Path(os.devnull)):
            written = deploy_model(outputs, project, options)
    if as_json:
        print(dumps(written.as_json()), end="")
        return
    tests = "with test values" if written.has_test_values else "without test values"
    say(f"wrote {written.folder}: the model of {written.source}, {tests}, for {written.chip}")
    say(f"ESP-DL {written.esp_dl}, the model in {written.place}")
    for note in written.notes:
        say(f"note: {note}")
    say(f"next: {written.folder / 'README.md'} has the commands to build, flash and read it")


def device_log(
    *,
    log: Annotated[Path, typer.Argument(help="The serial output of a board.")],
    output_dir: OutputFolder = Path("outputs"),
    iteration: Annotated[
        int | None,
        typer.Option(
            min=0, help="Whose model it was; else the one that the log names, or the best."
        ),
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="What to call the board, where several have the same chip.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read what a board measured, and store it with the iteration whose model it ran.

    Takes the log of the project that 'deploy' writes, of ESP-DL's test() and profile(), and of
    AutoQuant's latency program. The folder's times are predicted by the board from then on. Exits
    with 1 where the board speaks against the model.
    """
    from espdl_quantize.cli.terminal import say
    from espdl_quantize.core import dumps
    from espdl_quantize.report import record_log

    stored = record_log(output_dir, log, iteration, board=board)
    measurement = stored.measurement
    if as_json:
        form = {
            "iteration": stored.iteration.id,
            "path": str(stored.path),
            "notes": list(stored.notes),
        }
        holds = not measurement.is_against_the_model
        print(dumps({"holds": holds, **form, "measured": measurement.as_json()}), end="")
    else:
        _print(stored.iteration.name, stored.path, measurement)
        for note in stored.notes:
            say(f"note: {note}")
    sys.exit(EXIT_REFUSED if measurement.is_against_the_model else EXIT_OK)


def _print(name: str, path: Path, measurement: Measurement) -> None:
    from espdl_quantize.cli.terminal import say

    say(f"{name}: {measurement.sentence()}")
    whole = sum(layer.us for layer in measurement.layers)
    for layer in sorted(measurement.layers, key=lambda layer: -layer.us)[:_SLOWEST]:
        share = 100.0 * layer.us / whole if whole else 0.0
        say(f"  {layer.us / 1000:10.3f} ms {share:5.1f} %  {layer.op} ({layer.op_type})")
    if len(measurement.layers) > _SLOWEST:
        say(f"  ... {len(measurement.layers)} layers in all, {whole / 1000:.3f} ms")
    say(f"stored in {path}")
