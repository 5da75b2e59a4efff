"""``espdl-quantize verify``: is the file in the folder what was scored."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._options import AsJson, ContractPath, EspDlVersion
from espdl_quantize.cli._paths import whole
from espdl_quantize.cli._progress import TerminalProgress
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import EXIT_OK, EXIT_REFUSED, NoProgress, OutputFolderError, dumps

if TYPE_CHECKING:
    from espdl_quantize.iteration import Verification


def verify(
    *,
    contract: ContractPath,
    output_dir: Annotated[
        Path,
        typer.Option(help="The output folder, whose best is verified, or one iteration's folder."),
    ] = Path("outputs"),
    samples: Annotated[
        int, typer.Option(min=1, help="Calibration samples whose integers are computed.")
    ] = 16,
    esp_dl_version: EspDlVersion = None,
    as_json: AsJson = False,
) -> None:
    """Make an iteration's model again, and hold the file in its folder against it and the chip.

    Exits with 1 where the bytes differ, a rule is broken, or integers come to something else.
    """
    from espdl_quantize.cli._backend import load
    from espdl_quantize.contract import Overrides
    from espdl_quantize.iteration import verify_iteration
    from espdl_quantize.record import read_record

    folder = whole(_iteration(output_dir))
    overrides = Overrides(target=read_record(folder).target_chip, esp_dl_version=esp_dl_version)
    loaded = load(whole(contract), overrides)
    with contextlib.nullcontext(NoProgress()) if as_json else TerminalProgress() as progress:
        verification = verify_iteration(loaded, folder, samples, progress)
    if as_json:
        print(dumps(verification.as_json()), end="")
    else:
        _print(verification)
    sys.exit(EXIT_OK if verification.holds else EXIT_REFUSED)


def _iteration(folder: Path) -> Path:
    from espdl_quantize.record import read_history
    from espdl_quantize.record.files import INDEX

    if (folder / INDEX).is_file():
        return folder
    best = read_history(folder).best
    if best is None:
        raise OutputFolderError(
            f"{folder} is no iteration and holds none with a score", "run one first"
        )
    return best.folder


def _print(verification: Verification) -> None:
    console = Console(highlight=False)
    console.print(escape(str(verification.file)), style="bold")
    legality, integers = verification.check.legality, verification.check.integers
    same = "equals" if verification.same_file else "differs from"
    console.print(f"the file {same} what its setting makes now")
    console.print(
        escape(
            f"it {'obeys' if legality.legal else 'breaks'} the rules of {legality.chip}"
            + (f": {len(legality.faults)} faults" if legality.faults else "")
        )
    )
    for fault in legality.faults[:20]:
        console.print(escape(f"  {fault.op or 'model'} [{fault.rule}]: {fault.cause}"))
    if integers is not None:
        table = Table(title=f"integers of {integers.samples} samples against the simulation")
        for column in ("", "outputs", "equal, %", "largest difference, steps"):
            table.add_column(column, justify="right" if column else "left")
        rows = [(f"{len(integers.ops)} ops, each by itself", integers.total)]
        if integers.end_to_end is not None:
            rows.append(("the model's outputs, end to end", integers.end_to_end))
        rows += [
            (f"{op.op} ({op.op_type})", op.agreement)
            for op in integers.ops
            if op.agreement.exact < op.agreement.outputs
        ][:20]
        for name, agreement in rows:
            share = "-" if agreement.percent is None else f"{agreement.percent:.4f}"
            table.add_row(escape(name), str(agreement.outputs), share, str(agreement.largest))
        console.print(table)
        for skipped in integers.skipped:
            console.print(escape(f"skipped: {skipped.op} ({skipped.op_type}): {skipped.reason}"))
    for warning in verification.check.warnings():
        console.print(escape(f"warning: {warning}"), style="yellow")
    console.print(_summary(verification), style="bold" if verification.holds else "bold red")


def _summary(verification: Verification) -> str:
    """Say in a line what the file is worth."""
    check = verification.check
    chip, warnings = check.legality.chip, len([*check.warnings()])
    if verification.holds:
        agree = "" if check.integers is None else ", and its integers come to what was simulated"
        return f"verified: the file is what its setting makes, obeys the rules of {chip}{agree}"
    reasons = [
        *(() if verification.same_file else ("its setting makes another file now",)),
        *(() if check.legality.legal else (f"it breaks rules of {chip}",)),
    ]
    return f"not verified: {', and '.join(reasons) or f'see the warnings above, {warnings} in all'}"
