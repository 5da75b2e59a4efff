"""``espdl-quantize report`` and ``diff``: a folder rendered again, and two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from espdl_quantize.cli._options import AsJson
from espdl_quantize.cli.tables import fitted_table
from espdl_quantize.cli.terminal import printable, say
from espdl_quantize.core import EspdlQuantizeError, dumps


def report(
    *,
    outputs: Annotated[
        Path, typer.Argument(metavar="OUTPUTS", help="The folder that holds iter_0.")
    ] = Path("outputs"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Rewrite final_report.md even where its marker line is gone."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Render report.html again from what is in an output folder; nothing is run or decided.

    final_report.md is rendered, too, where the search has ended.
    """
    from espdl_quantize.report import render_again

    rendered = render_again(outputs, force=force)
    if as_json:
        print(
            dumps(
                {
                    "ok": True,
                    "report_html": str(rendered.html.resolve()),
                    "report": None if rendered.report is None else str(rendered.report.resolve()),
                    "notes": list(rendered.notes),
                }
            ),
            end="",
        )
        return
    for note in rendered.notes:
        say(f"note: {note}")
    say(f"wrote {rendered.html}")
    if rendered.report is not None:
        say(f"wrote {rendered.report}")


def diff(
    *,
    first: Annotated[
        Path, typer.Argument(metavar="OUTPUTS1", help="The folder that holds iter_0.")
    ],
    second: Annotated[Path, typer.Argument(metavar="OUTPUTS2", help="The one to compare with it.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as a page, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two output folders: two chips, two models, or a model of two dates.

    Scores are held against each other with their noise where both say what they are of, sample by
    sample. Nothing is written but the page.
    """
    from espdl_quantize.report import FolderDiff, diff_folders, folder_names, write_html

    compared: FolderDiff = diff_folders(first, second)
    notes: list[str] = []
    if html is not None:
        if html.is_dir():
            raise EspdlQuantizeError(f"{html} is a folder", "give the name of a file")
        notes = write_html(html, compared.html())
    if as_json:
        print(dumps({**compared.to_json(), "html": None if html is None else str(html)}), end="")
        return
    console = Console(highlight=False)
    names = folder_names(compared.folders)
    facts = compared.facts
    console.print(
        fitted_table(
            ("", *names, "change"),
            [(fact.name, fact.first, fact.second, fact.change) for fact in facts],
            console.width,
        )
    )
    if compared.layers:
        console.print(
            fitted_table(
                ("worst layers, noise:signal", *names),
                [
                    (layer.op, _ratio(layer.first), _ratio(layer.second))
                    for layer in compared.layers
                ],
                console.width,
            )
        )
    for note in (*compared.notes, *notes):
        console.print(Text(printable(f"note: {note}")))
    if html is not None:
        console.print(Text(printable(f"wrote {html}")), soft_wrap=True)
    console.print(Text(printable(compared.verdict), "bold"))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
