"""``espdl-quantize mcp``: the server for agents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def mcp(
    *,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A folder that clients may name paths in; may be given several times. Without "
            "it, the current folder.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Where jobs are recorded; else .espdl-quantize in the first root."),
    ] = None,
    max_jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Contracts that run at a time, the others wait; else one per pair of cores.",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer only the tools that write and run nothing.")
    ] = False,
) -> None:
    """Serve the Model Context Protocol on stdin and stdout, for an agent.

    It executes the contracts that the agent names. Jobs go on when the server ends.
    """
    from espdl_quantize.mcp import serve

    if sys.stdin.isatty():
        print("this speaks MCP on stdin: register it with a client", file=sys.stderr)
    serve(root or [Path()], state_dir, max_jobs=max_jobs, read_only=read_only)
