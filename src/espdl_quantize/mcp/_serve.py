"""Starts the server; the SDK is an extra and is imported only here and below."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from espdl_quantize.core import InstallationError
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp.jobs import JobStore, Places, reset_interrupt

STATE = ".espdl-quantize"
"""The folder of the job records in the first root. They belong to the project: a server that is
started there again, by any client, finds them; servers of other projects do not; and whoever
deletes the project deletes them."""


def serve(
    roots: Sequence[Path],
    state: Path | None = None,
    *,
    max_jobs: int | None = None,
    read_only: bool = False,
) -> None:
    """Serve over stdin and stdout until the client closes them.

    Args:
        roots: the folders that clients may name paths in.
        state: where the jobs are recorded; None for a folder in the first root.
        max_jobs: jobs that execute a contract, at a time; None for one per pair of cores.
        read_only: offer only what writes and runs nothing.

    Raises:
        KeyboardInterrupt: SIGINT came; jobs go on.
        UsageError: a root is no folder.
        InstallationError: the SDK is missing or too old, or the system has no process groups.
        OutputFolderError: the state folder cannot be written.
    """
    check_sdk()
    if not hasattr(os, "killpg"):
        raise InstallationError(
            "the server ends jobs by their process group, which this system does not have",
            "run it on Linux or macOS, or in WSL",
        )
    allowed = Roots(roots)
    if state is None:
        # A link in a project that came from elsewhere must not lead out of it.
        state = allowed.resolve(STATE, "the state folder")
        allowed.resolve(state / "jobs", "the folder of the jobs")
    reset_interrupt()
    from espdl_quantize.mcp.server import make_server
    from espdl_quantize.mcp.transport import was_interrupted

    places = Places() if max_jobs is None else Places(contract=max_jobs)
    store = JobStore(state, allowed.first, places=places)
    make_server(allowed, store, read_only=read_only).run("stdio")
    if was_interrupted():
        raise KeyboardInterrupt


def check_sdk() -> None:
    """Raise an error where the official SDK, version 2, is not there.

    Raises:
        InstallationError: it is missing, or of version 1.
    """
    hint = "pip install 'espdl-quantize[mcp]'"
    if importlib.util.find_spec("mcp") is None:
        raise InstallationError("the MCP server needs the MCP SDK, which is not installed", hint)
    if importlib.util.find_spec("mcp_types") is None:
        from importlib.metadata import version

        raise InstallationError(f"the MCP server needs the MCP SDK 2, found {version('mcp')}", hint)
