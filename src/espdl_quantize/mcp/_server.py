"""The server: its tools, its resources, and how errors reach the client."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import getdoc
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import ValidationError

from espdl_quantize import __version__
from espdl_quantize.core import EXIT_OUTPUT_FOLDER, EXIT_USAGE, EspdlQuantizeError, dumps
from espdl_quantize.mcp._board_tools import BoardTools
from espdl_quantize.mcp._folder_tools import FolderTools
from espdl_quantize.mcp._job_tools import JobTools
from espdl_quantize.mcp._resources import add_resources
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp.jobs import JobStore

INSTRUCTIONS = """\
Searches esp-ppq settings for the best int8 accuracy that an ESP32 chip can run.
The user's contract (user_quant.py) says model, data and score. Begin with check_contract, then
let tune search by itself, or go step by step: next_step, run_iteration, artifacts, and again.
Iterations take from seconds to hours: they run as jobs, which status follows and cancel ends.
finalize ends a search; report has the result. deploy writes a project that runs the model on a
board, device_log stores what the board measured. The resources explain the methods and the fields
of a setting. check_contract, run_iteration and tune execute the user's module."""
_LOGGER = logging.getLogger(__name__)
_TEND = 1.0
"""Seconds between two looks at the jobs."""


class Server(MCPServer[None]):
    """Answers errors that can be fixed with what is wrong, how to fix it and the exit code."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: there is no such tool, or it is at fault itself.
        """
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            told = _told(error.__cause__)
            if told is None:
                raise
            return CallToolResult(content=[TextContent(type="text", text=told)], is_error=True)


def make_server(roots: Roots, store: JobStore) -> MCPServer[None]:
    """Return a server that is ready to run."""

    @asynccontextmanager
    async def tended(_: MCPServer[None]) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(_tend, store)
            yield
            group.cancel_scope.cancel()

    server = Server(
        "espdl-quantize",
        instructions=INSTRUCTIONS,
        version=__version__,
        lifespan=tended,
        log_level="WARNING",
    )
    jobs, folders = JobTools(roots, store), FolderTools(roots, store)
    boards = BoardTools(roots)
    runs = ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
    )
    # It may be told to replace a finished iteration.
    replaces = runs.model_copy(update={"destructive_hint": True})
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    ends = ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
    )
    writes = ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
    )
    tools: list[tuple[Callable[..., Any], str, ToolAnnotations]] = [
        (jobs.check_contract, "Check a contract", runs),
        (jobs.run_iteration, "Run one iteration", replaces),
        (jobs.tune, "Search by itself", runs),
        (jobs.status, "Jobs and output folders", reads),
        (jobs.cancel, "Cancel a job", ends),
        (folders.next_step, "Say what to run next", reads),
        (folders.lint_setting, "Check a setting", reads),
        (folders.artifacts, "Read the files of an iteration", reads),
        (folders.finalize, "End a search", ends),
        (folders.report, "Read the final report", reads),
        (boards.deploy, "Write a project for a board", writes),
        (boards.device_log, "Read a board's log", ends),
    ]
    for function, title, hints in tools:
        server.add_tool(
            function,
            title=title,
            description=getdoc(function),
            annotations=hints,
            structured_output=True,
        )
    add_resources(server)
    return server


async def _tend(store: JobStore) -> None:
    """Look after the jobs for as long as the server runs, whatever goes wrong meanwhile."""
    logged = ""
    while True:
        try:
            await anyio.to_thread.run_sync(store.tend)
        except Exception as error:
            # A full disk, say: the tools tell of it, and it may pass.
            text = f"{type(error).__name__}: {error}"
            if text != logged:
                _LOGGER.warning("the jobs cannot be looked after: %s", text, exc_info=error)
            logged = text
        await anyio.sleep(_TEND)


def _told(cause: BaseException | None) -> str | None:
    """Return an error as the command prints it under --json; None where it is a fault of ours."""
    if isinstance(cause, EspdlQuantizeError):
        return _form(cause.cause, cause.hint, cause.exit_code)
    if isinstance(cause, ValidationError):
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in cause.errors())
        return _form("; ".join(faults), "see the tool's input schema", EXIT_USAGE)
    if isinstance(cause, OSError):
        what = f"{cause.filename or 'a file'}: {cause.strerror or cause}"
        return _form(what, "check permissions and free space", EXIT_OUTPUT_FOLDER)
    return None


def _form(message: str, hint: str, exit_code: int) -> str:
    error = {"message": message, "hint": hint, "exit_code": exit_code}
    return dumps({"ok": False, "error": error})
