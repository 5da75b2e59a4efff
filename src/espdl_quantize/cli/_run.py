"""``espdl-quantize run``: one iteration, and a summary that can be read at a glance."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._backend import ProcessOptions, backend_of
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.cli._terminal import escape
from espdl_quantize.core import Direction, dumps
from espdl_quantize.iteration import RunOptions
from espdl_quantize.record import IterationRecord, iteration_number
from espdl_quantize.setting import Setting, baseline, load_setting


def run_once(
    contract_path: Path,
    folder: Path,
    setting_path: Path | None,
    options: RunOptions,
    process: ProcessOptions,
    as_json: bool,
    progress_lines: Path | None = None,
) -> None:
    """Run one iteration and print what came out.

    Raises:
        EspdlQuantizeError: whatever stopped it; a folder that was begun says so.
    """
    place = whole(folder).resolve()
    if setting_path is None:
        setting = baseline(iteration_number(place) or 0, num_of_bits=None)
    else:
        setting = load_setting(setting_path)
    with (
        shown(as_json, whole_if_given(progress_lines)) as progress,
        backend_of(whole(contract_path), options, process, progress) as backend,
    ):
        record = backend.run(setting, place, progress)
    if as_json:
        print(dumps(record.to_json()), end="")
    else:
        print_summary(record, folder)
    for note in _notes(setting, place):
        print(f"note: {note}", file=sys.stderr)


def _notes(setting: Setting, folder: Path) -> Iterator[str]:
    """Yield what the folder's name means for the search."""
    number = iteration_number(folder)
    if number is None:
        yield (
            f"{folder.name!r} is not named iter_<N>, so 'compare' and 'tune' do not see this "
            "iteration"
        )
    elif number != setting.iteration_id:
        yield (
            f"the setting says iteration_id {setting.iteration_id}; this is iteration {number}, "
            "by the name of its folder"
        )


def print_summary(record: IterationRecord, folder: Path) -> None:
    """Print float against quantized score, the worst layers and where the files are."""
    console = Console(highlight=False)
    metric = record.metric or "metric"
    console.print(escape(f"{record.model_name} on {record.target_chip}"), style="bold")
    table = Table()
    for column in ("", metric):
        table.add_column(column, justify="left" if not column else "right")
    value, reference = record.value, record.float_value
    assert value is not None
    if reference is not None:
        table.add_row("float", f"{reference:.4g}")
    table.add_row("quantized", f"{value:.4g}")
    if reference is not None:
        loss = value - reference
        table.add_row("difference", f"{loss:+.4g}")
    console.print(table)
    if reference is not None and (loss if record.direction == Direction.MAX else -loss) >= 0:
        console.print("quantization loses nothing on these images: nothing is left to gain")
    if record.top_5_error_layers:
        console.print("worst layers, each quantized alone", style="bold")
        worst = Table()
        # A setting names ops in full.
        worst.add_column("op", overflow="fold")
        worst.add_column("noise : signal", justify="right")
        for layer in record.top_5_error_layers:
            worst.add_row(escape(layer.op), "-" if layer.snr is None else f"{layer.snr:.4g}")
        console.print(worst)
    for warning in record.warnings:
        console.print(escape(f"warning: {warning}"), style="yellow")
    saved = record.seconds_saved
    note = f", {saved:.1f} s saved by earlier iterations" if saved >= 1 else ""
    seconds = f"{record.elapsed_seconds or 0.0:.1f} s{note}"
    console.print(escape(f"model and artifacts: {folder}  ({seconds})"))
