"""The SDK's own client, talking to the command over stdio."""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

import espdl_quantize
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._serve import STATE
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.server import make_server

PATH = os.pathsep.join(
    [str(Path(espdl_quantize.__file__).parents[1]), str(Path(__file__).parents[2])]
)
"""Of what the server's jobs import."""

RECORDED = Path(__file__).parents[2] / "benchmarks/recorded/fashion_mnist_esp32s3.zip"
# Should the server ever signal its own group, or with the number 1 every process there is, then it
# ends itself instead, and the test fails.
GUARD = (
    "import os; _killpg = os.killpg; os.killpg = lambda group, number: "
    "os._exit(9) if group <= 1 or group == os.getpgrp() else _killpg(group, number); "
)
# The server itself needs no torch: a client waits for it whenever it starts.
START = GUARD + (
    "import sys; sys.modules['torch'] = None; sys.modules['esp_ppq'] = None; "
    "from espdl_quantize.cli import main; main()"
)


@asynccontextmanager
async def connect(*roots: Path, options: tuple[str, ...] = ()) -> AsyncIterator[Client]:
    """Talk to the command, in a process of its own."""
    arguments = ["-c", START, "mcp", *options]
    for root in roots:
        arguments += ["--root", str(root)]
    server = StdioServerParameters(
        command=sys.executable, args=arguments, env={**os.environ, "PYTHONPATH": PATH}
    )
    async with Client(server) as client:
        yield client


@asynccontextmanager
async def connect_within(*roots: Path) -> AsyncIterator[Client]:
    """Talk to the same server within this process, where no test is about the process.

    Its jobs are processes all the same. To start it takes seconds less.
    """
    allowed = Roots(roots)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        store = JobStore(allowed.resolve(STATE, "the state folder"), allowed.first)
        async with Client(make_server(allowed, store)) as client:
            yield client


async def call(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


async def read(client: Client, tool: str, /, **arguments: Any) -> str:
    """Return the text of a tool that has no structured content."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is None
    return str(result.content[0].text)  # type: ignore[union-attr]


def record_of(root: Path, job_id: str) -> dict[str, Any]:
    return dict(json.loads((root / ".espdl-quantize/jobs" / job_id / "job.json").read_text()))


async def refused(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    told = json.loads(result.content[0].text)  # type: ignore[union-attr]
    assert told["ok"] is False
    return dict(told["error"])


async def job_of(client: Client, job_id: str, wait: float = 0) -> dict[str, Any]:
    return dict((await call(client, "status", job_id=job_id, wait_seconds=wait))["jobs"][0])


async def until(
    client: Client, job_id: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 60
) -> dict[str, Any]:
    """Return the job as soon as something holds of it."""
    with anyio.fail_after(seconds):
        while not holds(job := await job_of(client, job_id)):
            assert job["state"] in ("queued", "running", "cancelling"), job
            await anyio.sleep(0.05)
    return job
