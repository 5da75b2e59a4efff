"""A command of the product in a process of its own, for tools that need its answer at once."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from espdl_quantize.core import EspdlQuantizeError
from espdl_quantize.mcp.jobs import own_python

_SECONDS = 300.0


def run_command(name: str, arguments: list[str]) -> dict[str, Any]:
    """Run a command in a process of its own and return what it prints under ``--json``.

    Reading a model takes esp-ppq and with it torch, which a server does without, and which print
    to stdout, where the protocol is spoken.

    Raises:
        EspdlQuantizeError: the command's own error, or it did not end.
    """
    try:
        done = subprocess.run(
            [*own_python(), "-m", "espdl_quantize", name, "--json", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env=os.environ,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EspdlQuantizeError(
            f"{name} has not ended within {_SECONDS:.0f} s", "ask the user to run it in a terminal"
        ) from error
    try:
        printed = json.loads(done.stdout)
    except ValueError as error:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise EspdlQuantizeError(
            f"{name} ended with {done.returncode}: {' '.join(last)[:300]}",
            "ask the user to run it in a terminal",
        ) from error
    if done.returncode == 0 and isinstance(printed, dict):
        return printed
    raise EspdlQuantizeError.from_json(printed.get("error") if isinstance(printed, dict) else None)
