"""``espdl-quantize run``: one iteration, and a summary that can be read at a glance."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import (
    AllowMismatch,
    AsJson,
    ContractPath,
    DryRun,
    EngineName,
    EspDlVersion,
    InProcess,
    IterationLimit,
    NoFloatScore,
    NoReuse,
    ProgressJson,
    Target,
)
from espdl_quantize.cli._paths import whole, whole_if_given
from espdl_quantize.cli._progress import shown
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import Direction, Engine, EspdlQuantizeError, dumps

if TYPE_CHECKING:
    from espdl_quantize.record import IterationRecord
    from espdl_quantize.setting import Setting


def run(
    *,
    contract: ContractPath,
    output_dir: Annotated[
        Path,
        typer.Option(help="The iteration's folder, outputs/iter_<N>; 'compare' sees no other."),
    ],
    target: Target = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="esp-ppq's default setting and nothing else.")
    ] = False,
    setting: Annotated[
        Path | None,
        typer.Option(help="A JSON setting, or a quant_setting.json that esp-ppq saved."),
    ] = None,
    use_full_eval: Annotated[
        bool, typer.Option("--use-full-eval", help="Score by evaluate, not by evaluate_fast.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of every random generator.")] = 0,
    info: Annotated[
        bool,
        typer.Option("--info", help="Export .info (text) and .json beside the .espdl."),
    ] = False,
    native: Annotated[
        bool, typer.Option("--native", help="Export esp-ppq's .native graph, too.")
    ] = False,
    test_values: Annotated[
        bool,
        typer.Option(
            "--test-values/--no-test-values",
            help="Write model_test.espdl, too: the model with a recorded input and output, for "
            "ESP-DL's model->test().",
        ),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished iteration.")
    ] = False,
    allow: Annotated[
        bool, typer.Option("--allow", help="Run a setting that breaks a rule of the search.")
    ] = False,
    dry_run: DryRun = False,
    no_float_score: NoFloatScore = False,
    allow_mismatch: AllowMismatch = False,
    esp_dl_version: EspDlVersion = None,
    iteration_limit: IterationLimit = None,
    in_process: InProcess = False,
    engine: EngineName = Engine.FAST,
    progress_json: ProgressJson = None,
    no_reuse: NoReuse = False,
    as_json: AsJson = False,
) -> None:
    """Quantize, analyse and score once; leaves a model and every artifact that explains it."""
    from espdl_quantize.cli import _backend
    from espdl_quantize.contract import Overrides
    from espdl_quantize.iteration import RunOptions
    from espdl_quantize.record import iteration_number
    from espdl_quantize.setting import baseline as baseline_setting
    from espdl_quantize.setting import load_setting

    process = _backend.ProcessOptions.of(iteration_limit, in_process=in_process)
    if baseline == (setting is not None):
        raise typer.BadParameter("give one of --baseline and --setting FILE")
    if setting is not None and not allow:
        check_discipline(setting, output_dir)
    options = RunOptions(
        full_eval=use_full_eval,
        seed=seed,
        with_info=info,
        with_native=native,
        overwrite=overwrite,
        engine=engine,
        score_float=not no_float_score,
        allow_mismatch=allow_mismatch,
        reuse=not no_reuse,
        test_values=test_values,
    )
    overrides = Overrides(target=target, esp_dl_version=esp_dl_version)
    if dry_run:
        from espdl_quantize.cli._dry_run import preview_iteration

        preview_iteration(
            contract, output_dir, setting, options, overrides=overrides, as_json=as_json
        )
        return
    place = whole(output_dir).resolve()
    if setting is None:
        chosen = baseline_setting(iteration_number(place) or 0, num_of_bits=None)
    else:
        chosen = load_setting(setting)
    with (
        shown(whole_if_given(progress_json), as_json=as_json) as progress,
        _backend.backend_of(
            whole(contract), options, process, progress, overrides=overrides
        ) as backend,
    ):
        check_beside(place, backend.facts.target_chip)
        record = backend.run(chosen, place, progress)
    if as_json:
        print(dumps(record.to_json()), end="")
    else:
        print_summary(record, output_dir)
    for note in _notes(chosen, place):
        print(f"note: {note}", file=sys.stderr)


def check_beside(folder: Path, chip: str | None) -> None:
    """Refuse a chip other than that of the iterations beside a folder that is to be one of them.

    Raises:
        OutputFolderError: they are of another chip.
    """
    from espdl_quantize.record import iteration_number, read_history
    from espdl_quantize.tuning import check_chip

    if iteration_number(folder) is not None and folder.parent.is_dir():
        check_chip(read_history(folder.parent), chip, but=folder)


def check_discipline(setting_path: Path, folder: Path) -> None:
    """Refuse a setting that breaks a rule of the search that it would be added to.

    A folder that is no ``iter_<N>``, or beside which nothing was run, belongs to no search. What is
    run again in its own folder is judged by what was known when it was first run.

    Raises:
        EspdlQuantizeError: it breaks a rule.
        SettingError: it is no setting.
    """
    from espdl_quantize.record import LazyEvidence, iteration_number, read_history
    from espdl_quantize.search import SearchState, lint_setting
    from espdl_quantize.setting import load_setting

    setting = load_setting(setting_path)
    folder = folder.resolve()
    number = iteration_number(folder)
    if number is None or not folder.parent.is_dir():
        return
    history = read_history(folder.parent)
    history = history.upto(sum(iteration.id < number for iteration in history.iterations))
    if not history.iterations:
        return
    broken = lint_setting(setting, SearchState.of(history, LazyEvidence(history)))
    if broken:
        raise EspdlQuantizeError(
            f"{setting_path} breaks a rule of the search: " + "; ".join(map(str, broken)),
            "fix the setting, or pass --allow to run it all the same; the report will say so",
        )


def _notes(setting: Setting, folder: Path) -> Iterator[str]:
    """Yield what the folder's name means for the search."""
    from espdl_quantize.record import iteration_number

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
    if record.is_without_effect:
        seconds = f"{record.elapsed_seconds or 0.0:.1f} s"
        console.print(
            f"no effect: the quantized graph is that of iter_{record.same_as}, whose score and "
            f"artifacts count ({seconds})"
        )
        return
    assert value is not None
    if reference is not None:
        table.add_row("float", f"{reference:.4g}")
    table.add_row("quantized", f"{value:.4g}")
    if reference is not None:
        loss = value - reference
        table.add_row("difference", f"{loss:+.4g}")
    console.print(table)
    if reference is not None and (loss if record.direction == Direction.MAX else -loss) >= 0:
        console.print("quantization loses nothing on these samples: nothing is left to gain")
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
