"""``espdl-quantize compare``: ranks what is in an output folder and runs nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from espdl_quantize.cli._options import AsJson, OutputFolder, SearchByName
from espdl_quantize.cli.terminal import say


def compare(
    *,
    output_dir: OutputFolder = Path("outputs"),
    finalize: Annotated[
        bool,
        typer.Option(
            "--finalize",
            help="End the search: write best/, report.html and final_report.md. That report is "
            "rewritten every time; delete its first line, the marker, to keep your edits.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Rewrite final_report.md even where its marker line is gone."),
    ] = False,
    force_finalize: Annotated[
        bool, typer.Option("--force-finalize", help="Finalize in phase 5, too.")
    ] = False,
    write_best: Annotated[
        bool, typer.Option("--write-best", help="Write best/ and no report.")
    ] = False,
    write_next: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the next setting to this file.")
    ] = None,
    search_by: SearchByName = "metric",
    last: Annotated[
        int | None,
        typer.Option(min=1, help="With --json: print only the last N iterations."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the iterations of an output folder and say what to run next.

    Once the target is reached or the metric has stopped moving, it finalizes by itself.
    """
    from espdl_quantize.core import dumps
    from espdl_quantize.report import compare as compare_folder
    from espdl_quantize.search import RankBy, SearchOptions

    result = compare_folder(
        output_dir,
        finalize=finalize,
        force=force,
        force_finalize=force_finalize,
        write_best=write_best,
        write_next=write_next,
        options=SearchOptions(rank_by=RankBy(search_by)),
    )
    if as_json:
        print(dumps(result.comparison.newest(last).to_json()), end="")
    else:
        for line in result.lines:
            say(line)
    sys.exit(result.exit_code)
