"""Ends the command with an error: a line on stderr and, under ``--json``, an object on stdout."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from espdl_quantize.cli._terminal import printable
from espdl_quantize.core import EXIT_USAGE, EspdlQuantizeError, dumps


def fail(error: EspdlQuantizeError, as_json: bool) -> NoReturn:
    """Print what is wrong and how to fix it, and exit with the error's code."""
    print(f"error: {printable(error.cause)}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {printable(error.hint)}", file=sys.stderr)
    if as_json:
        print(dumps(_form(error.cause, error.hint, error.exit_code) | _faults(error)), end="")
    sys.exit(error.exit_code)


def print_usage_error(ended: SystemExit) -> None:
    """Print as JSON what typer has said on stderr about the arguments."""
    # Typer exits while it handles its own error, which is the only place that has the message.
    say = getattr(ended.__context__, "format_message", None)
    message = say() if callable(say) else "the arguments are not understood"
    print(dumps(_form(message, "see --help", EXIT_USAGE)), end="")


def _form(cause: str, hint: str, exit_code: int) -> dict[str, Any]:
    # "cause" is what "message" was called in the first place; readers of either find it.
    error = {"message": cause, "cause": cause, "hint": hint, "exit_code": exit_code}
    return {"ok": False, "error": error}


def _faults(error: EspdlQuantizeError) -> dict[str, Any]:
    """Return the faults of a contract one by one, where the error is of several."""
    faults = getattr(error, "faults", ())
    return {"faults": [vars(fault) for fault in faults]} if faults else {}
