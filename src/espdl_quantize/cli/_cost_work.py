"""Works out and prints what ``espdl-quantize cost`` is asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from espdl_quantize.chip import ChipCost, Deployment, cost_of
from espdl_quantize.chip.cost import KINDS, Constants, LatencyCost, cost_chips, load_constants
from espdl_quantize.cli._terminal import escape
from espdl_quantize.core import (
    EspdlQuantizeError,
    Json,
    OutputFolderError,
    UsageError,
    dumps,
)
from espdl_quantize.iteration import captured
from espdl_quantize.record import read_history, read_record
from espdl_quantize.record.files import INDEX, LOG, MODEL

_TOP = 10
_KIB = 1024


def tell_cost(
    model: Path,
    target: str | None,
    cores: int,
    weights_in_flash: bool,
    internal: int,
    calibration: Path | None,
    as_json: bool,
) -> None:
    """Print what a model, an iteration or every iteration of a folder costs.

    Raises:
        EspdlQuantizeError: a file cannot be read or costed, or the chip is not known.
    """
    constants = None if calibration is None else load_constants(calibration)
    deployment = Deployment(cores, weights_in_flash, internal * _KIB)
    if model.is_dir() and not (model / INDEX).is_file():
        _cost_of_folder(model, target, deployment, constants, as_json)
        return
    chip = _chip(model, target, constants)
    file = model / MODEL if model.is_dir() else model
    found = _cost(file, chip, deployment, constants)
    if as_json:
        print(dumps({"ok": True, "file": str(file), **found.to_json()}), end="")
    else:
        _print(file, found)


def _cost(file: Path, chip: str, deployment: Deployment, constants: Constants | None) -> ChipCost:
    # esp-ppq, which reads the file, prints a banner when it is imported.
    with tempfile.TemporaryDirectory() as scratch, captured(Path(scratch) / LOG):
        return cost_of(file, chip, deployment, constants)


def _chip(model: Path, target: str | None, constants: Constants | None) -> str:
    folder = model if model.is_dir() else model.parent
    told = None
    if (folder / INDEX).is_file():
        told = read_record(folder).target_chip
    if target is not None and told is not None and target != told:
        raise UsageError(
            f"--target is {target}, but {folder} was exported for {told}", "leave --target out"
        )
    chip = target or told or (constants.chip if constants else None)
    if chip is None:
        raise UsageError(
            f"{model} does not say which chip it is for",
            f"give --target: one of {', '.join(cost_chips())}",
        )
    return chip


def _cost_of_folder(
    folder: Path,
    target: str | None,
    deployment: Deployment,
    constants: Constants | None,
    as_json: bool,
) -> None:
    rows = read_history(folder).iterations
    if not rows:
        raise OutputFolderError(
            f"{folder} holds no iteration", "give a model.espdl, or run an iteration first"
        )
    told: list[Json] = []
    table = Table(title=escape(f"{folder}: costs per iteration"))
    for column in ("iteration", "score", "ms", "from", "to", "RAM, KiB", "flash, KiB"):
        table.add_column(column, justify="left" if column == "iteration" else "right")
    notes: dict[str, None] = {}
    for row in rows:
        entry: Json = {"iteration": row.id, "score": row.value}
        try:
            chip = _chip(row.folder, target, constants)
            found = _cost(row.folder / MODEL, chip, deployment, constants)
        except UsageError:
            raise
        except EspdlQuantizeError as error:
            told.append({**entry, "problem": error.cause})
            table.add_row(escape(row.name), _figure(row.value), *["-"] * 5)
            notes[f"{row.name}: {error.cause}"] = None
            continue
        parts = found.to_json()
        told.append({**entry, **{key: parts[key] for key in ("chip", "flash", "ram", "latency")}})
        notes.update(dict.fromkeys(found.notes))
        latency = found.latency
        table.add_row(
            escape(row.name),
            _figure(row.value),
            *(_figure(value) for value in (latency.milliseconds, latency.low, latency.high)),
            f"{(found.ram.arena + found.ram.internal) / _KIB:,.0f}",
            f"{found.flash.file / _KIB:,.0f}",
        )
    if as_json:
        print(dumps({"ok": True, "folder": str(folder), "iterations": told}), end="")
        return
    console = Console(highlight=False)
    console.print(table)
    for note in notes:
        console.print(escape(f"note: {note}"))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _time(latency: LatencyCost) -> str:
    if latency.milliseconds is None or latency.low is None or latency.high is None:
        return "not known, shares only"
    return (
        f"{_figure(latency.milliseconds)} ms, nine in ten between {_figure(latency.low)} and "
        f"{_figure(latency.high)} ({latency.source})"
    )


def _print(file: Path, found: ChipCost) -> None:
    console = Console(highlight=False)
    ram, flash = found.ram, found.flash
    console.print(escape(f"{file} on {found.chip}"), style="bold")
    cores = "one core" if found.deployment.cores == 1 else "two cores"
    console.print(escape(f"latency: {_time(found.latency)}, {cores}"))
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
    for note in found.notes:
        console.print(escape(f"note: {note}"))
    top = {id(layer) for layer in found.top(_TOP)}
    table = Table(title=f"{len(found.layers)} layers; * marks the {len(top)} that take longest")
    for column in ("", "layer", "type", "width", "ms", "%", "M mult.", "weights, KiB", "mostly"):
        left = column in ("", "layer", "type", "width", "mostly")
        table.add_column(column, justify="left" if left else "right")
    for layer in found.layers:
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
    used = {layer.mostly for layer in found.layers}
    for kind, meaning in KINDS.items():
        if kind in used:
            console.print(f"{kind}: {meaning}")
