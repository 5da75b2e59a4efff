"""How a command fails: a line per fault on stderr, under ``--json`` one object on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from espdl_quantize.cli.terminal import printable
from espdl_quantize.core import SHELL, EspdlQuantizeError, Finding, FindingsError, dumps


def fail(
    error: EspdlQuantizeError,
    *,
    as_json: bool,
    faults: Sequence[Finding] = (),
    beside: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Print what is wrong and how to fix it, and exit with the error's code.

    Args:
        error: what ended the command.
        as_json: print it as JSON, too.
        faults: what the error comes of, where that is known one by one.
        beside: what else is known, for the JSON.
    """
    faults = faults or (error.findings if isinstance(error, FindingsError) else ())
    for cause, hint in [(each.line, each.hint) for each in faults] or [(error.cause, error.hint)]:
        print(f"error: {printable(cause)}", file=sys.stderr)
        if hint:
            print(f"  hint: {printable(hint)}", file=sys.stderr)
    if as_json:
        print_error(error, beside)
    sys.exit(error.exit_code)


def print_error(error: EspdlQuantizeError, beside: Mapping[str, Any] | None = None) -> None:
    """Print an error as JSON.

    Args:
        error: the error.
        beside: further keys.
    """
    form: dict[str, Any] = {**(beside or {}), "ok": False, "error": error.to_json(SHELL)}
    # Where earlier versions had them.
    faults = form["error"].get("faults")
    print(dumps({**form, **({"faults": faults} if faults else {})}), end="")
