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
) -> None:
    """Serve the Model Context Protocol on stdin and stdout, for an agent.

    It executes the contracts that the agent names. Jobs go on when the server ends.
    """
    from espdl_quantize.mcp import serve

    if sys.stdin.isatty():
        print("this speaks MCP on stdin: register it with a client", file=sys.stderr)
    serve(root or [Path()], state_dir)
