"""Lines of JSON-RPC on stdin and stdout, with an answer for those that are no message.

The SDK's own transport drops what it cannot read, so that a client waits forever, and does not end
on SIGINT while it waits for a line. See JSON-RPC 2.0, section 5.1, and the base protocol of MCP.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS = -32700, -32600, -32602
METHOD_NOT_FOUND = -32601
"""Codes of JSON-RPC 2.0."""

_LARGEST = 16 << 20
"""Bytes of a line; a setting takes some thousand."""
_LONGEST_NAME = 200
"""Characters of a method or an id: an answer repeats them."""
_AT_ONCE = 1 << 16
_PATIENCE = 3.0
"""Seconds for calls that run when the server is asked to end."""


def fault_of(line: bytes) -> dict[str, Any] | None:
    """Return the error that answers a line; None for a message, and for an empty line."""
    if not line.strip():
        return None
    if len(line) > _LARGEST:
        return _error(None, INVALID_REQUEST, f"the message is longer than {_LARGEST >> 20} MiB")
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return _error(None, PARSE_ERROR, f"the line is no JSON: {_why(error)}")
    if isinstance(message, list):
        return _error(None, INVALID_REQUEST, "batches are not supported: send one message a line")
    if not isinstance(message, dict):
        return _error(None, INVALID_REQUEST, "a message is a JSON object")
    has_id = isinstance(message.get("id"), (str, int)) and not isinstance(message["id"], bool)
    if len(str(message.get("id", ""))) > _LONGEST_NAME:
        return _error(None, INVALID_REQUEST, f"an id has at most {_LONGEST_NAME} characters")
    known = message["id"] if has_id else None
    if message.get("jsonrpc") != "2.0":
        return _error(known, INVALID_REQUEST, 'jsonrpc is to be "2.0"')
    if "id" in message and not has_id and "error" not in message:
        return _error(None, INVALID_REQUEST, "an id is a string or an integer, and never null")
    if "method" not in message:
        if "result" in message or "error" in message:
            return None
        return _error(known, INVALID_REQUEST, "a message has a method, a result or an error")
    if not isinstance(message["method"], str):
        return _error(known, INVALID_REQUEST, "the method is to be a string")
    if len(message["method"]) > _LONGEST_NAME:
        return _error(known, METHOD_NOT_FOUND, "there is no method with so long a name")
    if not isinstance(message.get("params", {}), dict) and has_id:
        return _error(known, INVALID_PARAMS, "params are to be an object")
    return None


def _error(known: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": known, "error": {"code": code, "message": message}}


def _why(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)[:200]


class Output:
    """Where answers go, whole lines at a time, whoever writes them.

    Args:
        descriptor: of the client's end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = anyio.Lock()

    async def write(self, text: str) -> None:
        """Write a line; a client that has gone gets nothing."""
        async with self._lock:
            await anyio.to_thread.run_sync(self._write, text.encode("utf-8", "replace"))

    async def flush(self) -> None:
        """Do nothing: nothing is kept back."""

    def _write(self, content: bytes) -> None:
        while content:
            try:
                content = content[os.write(self._descriptor, content) :]
            except OSError:
                return


class Input:
    """The lines of a client that are messages; the others are answered on the way.

    Args:
        descriptor: where they come from.
        output: where the answers go.
    """

    def __init__(self, descriptor: int, output: Output) -> None:
        self._descriptor, self._output = descriptor, output
        self._send: MemoryObjectSendStream[bytes]
        self._lines: MemoryObjectReceiveStream[bytes]
        self._send, self._lines = anyio.create_memory_object_stream[bytes](float("inf"))
        # A thread that is not waited for: nothing interrupts its read.
        threading.Thread(
            target=self._read, args=(asyncio.get_running_loop(),), daemon=True, name="stdin"
        ).start()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = b""
        try:
            while chunk := os.read(self._descriptor, _AT_ONCE):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(self._send.send_nowait, line)
                if len(rest) > 2 * _LARGEST:
                    # It will be refused, and need not be kept whole.
                    rest = rest[: _LARGEST + 1]
            if rest:
                loop.call_soon_threadsafe(self._send.send_nowait, rest)
        except OSError:
            pass
        finally:
            try:
                loop.call_soon_threadsafe(self._send.close)
            except RuntimeError:
                # The loop has ended before the client.
                return

    def __aiter__(self) -> AsyncIterator[str]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[str]:
        async for line in self._lines:
            fault = fault_of(line)
            if fault is not None:
                await self._output.write(json.dumps(fault) + "\n")
            elif line.strip():
                yield line.decode("utf-8")


def claim() -> tuple[int, int]:
    """Take stdin and stdout for the protocol; what else reads or prints misses them.

    Returns:
        Descriptors of the client's ends.
    """
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


@asynccontextmanager
async def ended_by_interrupt() -> AsyncIterator[None]:
    """End what runs within on SIGINT; what then still hangs ends with the process."""
    async with anyio.create_task_group() as group:
        group.start_soon(_wait_for_interrupt, group.cancel_scope)
        yield
        group.cancel_scope.cancel()


_interrupted = threading.Event()


def was_interrupted() -> bool:
    """Tell whether SIGINT has ended the server."""
    return _interrupted.is_set()


async def _wait_for_interrupt(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            _interrupted.set()
            timer = threading.Timer(_PATIENCE, os._exit, args=(130,))
            timer.daemon = True
            timer.start()
            scope.cancel()
