"""The server: its tools, its resources, and how errors reach the client."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import getdoc
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from espdl_quantize import __version__
from espdl_quantize.core import EspdlQuantizeError, OutputFolderError, UsageError, dumps
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._spelling import MCP
from espdl_quantize.mcp.board_tools import BoardTools
from espdl_quantize.mcp.cost_tool import CostTool
from espdl_quantize.mcp.folder_tools import FolderTools
from espdl_quantize.mcp.job_tools import JobTools
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.resources import add_resources

INSTRUCTIONS = """\
Searches esp-ppq settings for the best int8 accuracy that an ESP32 chip can run.
The user's contract (user_quant.py) says model, data and score. Begin with check_contract, then
let tune search by itself, or go step by step: next_step, run_iteration, artifacts, and again.
Iterations take from seconds to hours: they run as jobs, which status follows and cancel ends.
finalize ends a search; report has the result. cost predicts what models take on the chip, deploy
writes a project that runs the model on a
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
            failure = _as_error(error.__cause__)
            if failure is None:
                raise
            text = dumps({"ok": False, "error": failure.to_json(MCP)})
            return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


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
    modules = (
        JobTools(roots, store),
        FolderTools(roots, store),
        CostTool(roots),
        BoardTools(roots),
    )
    for tool in (tool for module in modules for tool in module.tools()):
        server.add_tool(
            tool.function,
            title=tool.title,
            description=getdoc(tool.function),
            annotations=tool.annotations,
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


def _as_error(cause: BaseException | None) -> EspdlQuantizeError | None:
    """Return what a client is told of an error; None where it is a fault of ours."""
    if isinstance(cause, EspdlQuantizeError):
        return cause
    if isinstance(cause, ValidationError):
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in cause.errors())
        return UsageError("; ".join(faults), "see the tool's input schema")
    if isinstance(cause, OSError):
        what = f"{cause.filename or 'a file'}: {cause.strerror or cause}"
        return OutputFolderError(what, "check permissions and free space")
    return None
