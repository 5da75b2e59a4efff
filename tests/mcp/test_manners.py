"""What the protocol asks of a server, beyond what a well-behaved client sees."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.mcp.transport import fault_of
from tests.mcp.client import START

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    },
}


@pytest.mark.parametrize(
    ("line", "code", "known"),
    [
        (b"{broken", -32700, None),
        (b"\xff\xfe", -32700, None),
        (b"[" * 200_000, -32700, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":7,"method":"ping"}]', -32600, None),
        (b'"text"', -32600, None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"1.0","id":5,"method":"ping"}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":"x"}', -32600, "x"),
        (b'{"jsonrpc":"2.0","id":5,"method":6}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":5,"method":"ping","params":[]}', -32602, 5),
        (b'{"jsonrpc":"2.0","id":5,"method":"' + b"m" * 200_000 + b'"}', -32601, 5),
        (b'{"jsonrpc":"2.0","id":"' + b"i" * 200_000 + b'","method":"ping"}', -32600, None),
    ],
)
def test_what_is_no_message_is_answered(line: bytes, code: int, known: Any) -> None:
    fault = fault_of(line)
    assert fault is not None
    assert (fault["error"]["code"], fault["id"]) == (code, known)
    assert fault["error"]["message"]
    assert len(json.dumps(fault)) < 1000


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" \r",
        json.dumps(HELLO).encode(),
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}',
    ],
)
def test_messages_are_left_to_the_sdk(line: bytes) -> None:
    assert fault_of(line) is None


@contextmanager
def serving(root: Path) -> Iterator[subprocess.Popen[str]]:
    server = subprocess.Popen(
        [sys.executable, "-c", START, "mcp", "--root", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield server
    finally:
        server.kill()
        server.communicate()


def ask(server: subprocess.Popen[str], line: str) -> dict[str, Any]:
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(line + "\n")
    server.stdin.flush()
    return dict(json.loads(server.stdout.readline()))


def test_a_broken_line_costs_no_other_and_ctrl_c_ends_it(root: Path) -> None:
    with serving(root) as server:
        hello = ask(server, json.dumps(HELLO))
        assert ask(server, "{broken")["error"]["code"] == -32700
        assert ask(server, '{"jsonrpc":"2.0","id":2,"method":"ping"}')["result"] == {}
        listed = ask(server, '{"jsonrpc":"2.0","id":3,"method":"prompts/list"}')
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 130
    # A capability is for what there is.
    assert "prompts" in hello["result"]["capabilities"]
    assert [prompt["name"] for prompt in listed["result"]["prompts"]] == ["guide"]


def test_the_public_inspector_reads_the_server(root: Path) -> None:
    inspector = shutil.which("mcp-inspector")
    if inspector is None:
        pytest.skip("the package @modelcontextprotocol/inspector is not installed")
    start = root / "serve.py"
    start.write_text("from espdl_quantize.cli import main\nmain()\n")
    command = [inspector, "--cli", sys.executable, str(start), "mcp", "--root", str(root)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def told(*method: str) -> dict[str, Any]:
        done = subprocess.run(
            [*command, "--method", *method], capture_output=True, text=True, env=env, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    names = {tool["name"] for tool in told("tools/list")["tools"]}
    assert {"guide", "tune", "status"} <= names
    called = told("tools/call", "--tool-name", "status")
    assert called["structuredContent"]["total"] == 0
