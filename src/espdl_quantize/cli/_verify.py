"""``espdl-quantize verify``: is the file in the folder what was scored."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rich.console import Console
from rich.table import Table

from espdl_quantize.cli._contract import load
from espdl_quantize.cli._paths import whole
from espdl_quantize.cli._progress import TerminalProgress
from espdl_quantize.cli._terminal import escape
from espdl_quantize.core import EXIT_OK, EXIT_REFUSED, NoProgress, OutputFolderError, dumps
from espdl_quantize.iteration import Verification, verify_iteration
from espdl_quantize.record import read_history
from espdl_quantize.record.files import INDEX


def verify(contract: Path, folder: Path, samples: int, as_json: bool) -> int:
    """Make an iteration's model again, check the file in its folder, and print what was found.

    Returns:
        The exit code: 1 where something speaks against the file.

    Raises:
        OutputFolderError: there is no iteration to verify.
    """
    chosen = whole(_iteration(folder))
    loaded = load(whole(contract))
    with contextlib.nullcontext(NoProgress()) if as_json else TerminalProgress() as progress:
        found = verify_iteration(loaded, chosen, samples, progress)
    if as_json:
        print(dumps(found.as_json()), end="")
    else:
        _print(found)
    return EXIT_OK if found.holds else EXIT_REFUSED


def _iteration(folder: Path) -> Path:
    if (folder / INDEX).is_file():
        return folder
    best = read_history(folder).best
    if best is None:
        raise OutputFolderError(
            f"{folder} is no iteration and holds none with a score", "run one first"
        )
    return best.folder


def _print(found: Verification) -> None:
    console = Console(highlight=False)
    console.print(escape(str(found.file)), style="bold")
    legality, integers = found.check.legality, found.check.integers
    same = "equals" if found.same_file else "differs from"
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
            (f"{one.op} ({one.op_type})", one.agreement)
            for one in integers.ops
            if one.agreement.exact < one.agreement.outputs
        ][:20]
        for name, agreement in rows:
            share = "-" if agreement.percent is None else f"{agreement.percent:.4f}"
            table.add_row(escape(name), str(agreement.outputs), share, str(agreement.largest))
        console.print(table)
        for one in integers.skipped:
            console.print(escape(f"skipped: {one.op} ({one.op_type}): {one.reason}"))
    for warning in found.check.warnings():
        console.print(escape(f"warning: {warning}"), style="yellow")
