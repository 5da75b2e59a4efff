"""``espdl-quantize cost``: what a model costs on the chip."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import AsJson
from espdl_quantize.cli._progress import shown
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import (
    EspdlQuantizeError,
    Hint,
    Json,
    Option,
    OutputFolderError,
    UsageError,
    dumps,
)

if TYPE_CHECKING:
    from espdl_quantize.chip import ChipCost, Deployment
    from espdl_quantize.chip.cost import Constants, LatencyCost

_WIDTHS = {
    "S8": "int8",
    "S16": "int16",
    "W8A16": "int8 weights, int16 activations",
    "F32": "float",
}
"""What the codes of ESP-DL's kernels mean."""

_TOP = 10
_KIB = 1024


def cost(
    *,
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
    from espdl_quantize.record.files import INDEX, MODEL

    # Loading esp-ppq, which reads the file, takes most of the time.
    with shown(None, as_json=as_json) as progress, progress.stage("read the model"):
        from espdl_quantize.chip import Deployment
        from espdl_quantize.chip.cost import load_constants

        constants = None if calibration is None else load_constants(calibration)
        deployment = Deployment(cores, weights_in_flash, internal * _KIB)
        file = None
        if not model.is_dir() or (model / INDEX).is_file():
            chip = _chip(model, target, constants)
            file = model / MODEL if model.is_dir() else model
            chip_cost = _cost(file, chip, deployment, constants)
    if file is None:
        _cost_of_folder(model, target, deployment, constants, as_json=as_json)
        return
    if as_json:
        print(dumps({"ok": True, "file": str(file), **chip_cost.to_json()}), end="")
    else:
        _print(file, chip_cost)


def _cost(file: Path, chip: str, deployment: Deployment, constants: Constants | None) -> ChipCost:
    from espdl_quantize.chip import cost_of
    from espdl_quantize.iteration import captured
    from espdl_quantize.record.files import LOG

    # esp-ppq, which reads the file, prints a banner when it is imported.
    with tempfile.TemporaryDirectory() as scratch, captured(Path(scratch) / LOG):
        return cost_of(file, chip, deployment, constants)


def _chip(model: Path, target: str | None, constants: Constants | None) -> str:
    from espdl_quantize.chip.cost import cost_chips
    from espdl_quantize.record import read_record
    from espdl_quantize.record.files import INDEX

    folder = model if model.is_dir() else model.parent
    stated = None
    if (folder / INDEX).is_file():
        stated = read_record(folder).target_chip
    if target is not None and stated is not None and target != stated:
        raise UsageError(
            f"target {target} is asked for, and {folder} was exported for {stated}",
            Hint("leave out ", Option.TARGET),
        )
    chip = target or stated or (constants.chip if constants else None)
    if chip is None:
        raise UsageError(
            f"{model} does not say which chip it is for",
            Hint("give ", Option.TARGET, f": one of {', '.join(cost_chips())}"),
        )
    return chip


def _cost_of_folder(
    folder: Path,
    target: str | None,
    deployment: Deployment,
    constants: Constants | None,
    *,
    as_json: bool,
) -> None:
    from espdl_quantize.record import read_history
    from espdl_quantize.record.files import MODEL
    from espdl_quantize.report import changes_of

    history = read_history(folder)
    iterations = history.iterations
    if not iterations:
        raise OutputFolderError(
            f"{folder} holds no iteration", "give a model.espdl, or run an iteration first"
        )
    entries: list[Json] = []
    table = Table(title=escape(f"{folder}: costs per iteration"))
    for column in ("iteration", "what changed", "score", "ms", "from", "to"):
        left = column in ("iteration", "what changed")
        table.add_column(column, justify="left" if left else "right")
    for column in ("RAM, KiB", "flash, KiB"):
        table.add_column(column, justify="right")
    notes: dict[str, None] = {}
    costs: dict[str, ChipCost] = {}
    for iteration in iterations:
        entry: Json = {"iteration": iteration.id, "score": iteration.value}
        cells = (iteration.name, changes_of(history, iteration), _figure(iteration.value))
        try:
            chip = _chip(iteration.folder, target, constants)
            chip_cost = _cost(iteration.folder / MODEL, chip, deployment, constants)
        except UsageError:
            raise
        except EspdlQuantizeError as error:
            entries.append({**entry, "problem": error.cause})
            table.add_row(*map(escape, cells), *["-"] * 5)
            notes[f"{iteration.name}: {error.cause}"] = None
            continue
        parts = chip_cost.to_json()
        entries.append(
            {**entry, **{key: parts[key] for key in ("chip", "flash", "ram", "latency")}}
        )
        notes.update(dict.fromkeys(chip_cost.notes))
        costs[iteration.name] = chip_cost
        latency = chip_cost.latency
        table.add_row(
            *map(escape, cells),
            *(_figure(value) for value in (latency.milliseconds, latency.low, latency.high)),
            f"{(chip_cost.ram.arena + chip_cost.ram.internal) / _KIB:,.0f}",
            f"{chip_cost.flash.file / _KIB:,.0f}",
        )
    if as_json:
        print(dumps({"ok": True, "folder": str(folder), "iterations": entries}), end="")
        return
    console = Console(highlight=False)
    console.print(table)
    for note in notes:
        console.print(escape(f"note: {note}"))
    best = history.best
    if best is not None and best.name in costs:
        scores = f"{best.name}, the best, scores {_figure(best.value)}"
        console.print(escape(f"{scores} and takes {_summary(costs[best.name])}"), style="bold")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _summary(cost: ChipCost) -> str:
    """Say in a line what a model takes."""
    latency, ram = cost.latency.milliseconds, cost.ram.arena + cost.ram.internal
    time = "an unknown time" if latency is None else f"{_figure(latency)} ms (predicted)"
    return (
        f"{time}, {ram / _KIB:,.0f} KiB of RAM for activations and {cost.flash.file / _KIB:,.0f} "
        f"KiB of flash on {cost.chip}"
    )


def _time(latency: LatencyCost) -> str:
    if latency.milliseconds is None or latency.low is None or latency.high is None:
        return "not known, shares only"
    return (
        f"{_figure(latency.milliseconds)} ms, nine in ten between {_figure(latency.low)} and "
        f"{_figure(latency.high)} ({latency.source})"
    )


def _print(file: Path, cost: ChipCost) -> None:
    from espdl_quantize.chip.cost import KINDS

    console = Console(highlight=False)
    ram, flash = cost.ram, cost.flash
    console.print(escape(f"{file} on {cost.chip}"), style="bold")
    cores = "one core" if cost.deployment.cores == 1 else "two cores"
    console.print(escape(f"latency: {_time(cost.latency)}, {cores}"))
    held = f", {ram.internal / _KIB:,.1f} KiB of internal RAM" if ram.internal else ""
    copied = f" + {ram.weights_copied / _KIB:,.1f} KiB of copied weights"
    console.print(
        f"RAM: {ram.arena / _KIB:,.1f} KiB of activations{held}"
        + (copied if ram.weights_copied else "; the weights stay in flash")
    )
    first = ", ".join(f"{name} {size / _KIB:,.1f}" for name, size in ram.at_peak[:4])
    console.print(escape(f"  its peak is at {ram.peak_layer}, which holds (KiB): {first}"))
    weights = ", ".join(f"{kind} {size / _KIB:,.1f}" for kind, size in flash.weights.items())
    console.print(
        f"flash: {flash.file / _KIB:,.1f} KiB; weights (KiB): {weights or 'none'}; "
        f"the rest {flash.rest / _KIB:,.1f}"
    )
    for note in cost.notes:
        console.print(escape(f"note: {note}"))
    top = {id(layer) for layer in cost.top(_TOP)}
    table = Table(title=f"{len(cost.layers)} layers; * marks the {len(top)} that take longest")
    for column in ("", "layer", "type", "width", "ms", "%", "M mult.", "weights, KiB", "mostly"):
        left = column in ("", "layer", "type", "width", "mostly")
        table.add_column(column, justify="left" if left else "right")
    for layer in cost.layers:
        table.add_row(
            "*" if id(layer) in top else "",
            escape(layer.name),
            escape(layer.op_type),
            escape(layer.width),
            "-" if layer.milliseconds is None else f"{layer.milliseconds:.3f}",
            f"{100 * layer.share:.1f}",
            f"{layer.macs / 1e6:.2f}" if layer.macs else "",
            f"{layer.weight_bytes / _KIB:,.1f}" if layer.weight_bytes else "",
            layer.mostly,
        )
    console.print(table)
    used = {layer.mostly for layer in cost.layers}
    widths = {layer.width for layer in cost.layers}
    for code, meaning in (*_WIDTHS.items(), *KINDS.items()):
        if code in used | widths:
            console.print(f"{code}: {meaning}")
    slowest = "".join(
        f"; {layer.name} takes most of the time, {layer.share:.0%}" for layer in cost.top(1)
    )
    console.print(escape(f"in short: {_summary(cost)}{slowest}"), style="bold")
