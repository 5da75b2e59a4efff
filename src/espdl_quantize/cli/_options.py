"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from espdl_quantize.core import Engine
from espdl_quantize.targets.ops import supported_version, version_text


def version_of_esp_dl(text: str | None) -> str | None:
    """Return a version of ESP-DL as it is written; the callback of every option that takes one."""
    return None if text is None else version_text(supported_version(text))


ContractPath = Annotated[Path, typer.Argument(metavar="USER_QUANT.PY", help="The contract module.")]
OutputFolder = Annotated[Path, typer.Option(help="The folder that holds iter_0.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result, or the error, as JSON on stdout.")
]
EngineName = Annotated[
    Engine,
    typer.Option(help="The fast engine, or plain esp-ppq; 'engines' compares them on your model."),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="CHIP",
        help="The chip in the place of the contract's, in an output folder of its own.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be run and how long it takes; write nothing."),
]
ProgressJson = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write progress to this file, a JSON object per line, instead of onto the terminal.",
    ),
]
AllowMismatch = Annotated[
    bool,
    typer.Option(
        "--allow-mismatch",
        help="Go on where what esp-ppq reads is not your model; every report then says so.",
    ),
]
EspDlVersion = Annotated[
    str | None,
    typer.Option(
        metavar="X.Y.Z",
        help="The version of ESP-DL on the chip, in place of QUANT_CONFIG's esp_dl_version: what "
        "it lacks is not exported.",
        callback=version_of_esp_dl,
    ),
]
NoReuse = Annotated[
    bool,
    typer.Option(
        "--no-reuse",
        help="Compute every pass anew; else results of earlier iterations in the output folder's "
        ".reuse are taken where nothing they depend on has changed.",
    ),
]
InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process",
        help="Run iterations in this process, for a debugger: a crash ends the command, too.",
    ),
]
IterationLimit = Annotated[
    str | None,
    typer.Option(
        help="End an iteration that takes longer, as failed: 30m, 2h, or seconds. Without it, ten "
        "times what was measured in this folder before."
    ),
]
NoFloatScore = Annotated[
    bool,
    typer.Option(
        "--no-float-score",
        help="Do not score the float model first: for an evaluate() of quantized graphs only.",
    ),
]

SearchByName = Annotated[
    Literal["metric", "noise", "agreement"],
    typer.Option(
        help="What the next step goes by: the metric, the noise at the outputs, or how often they "
        "decide as the float model; best and target are the metric's all the same."
    ),
]
