"""The command, and how it ends: an error is a line on stderr, under ``--json`` an object on stdout.

Each command is a module of this package, listed in :data:`_COMMANDS`. What needs torch, or the
packages that compute, is imported when a command runs, so that the help comes at once.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from espdl_quantize import __version__
from espdl_quantize.cli.check import check
from espdl_quantize.cli.compare import compare
from espdl_quantize.cli.cost import cost
from espdl_quantize.cli.deploy import deploy, device_log
from espdl_quantize.cli.engines import engines
from espdl_quantize.cli.failing import fail, print_error
from espdl_quantize.cli.final import final
from espdl_quantize.cli.init import init, schema
from espdl_quantize.cli.lint import lint
from espdl_quantize.cli.mcp import mcp
from espdl_quantize.cli.repeat import repeat
from espdl_quantize.cli.report import diff, report
from espdl_quantize.cli.run import run
from espdl_quantize.cli.skill import skill_app
from espdl_quantize.cli.tune import tune
from espdl_quantize.cli.verify import verify
from espdl_quantize.cli.watch import watch
from espdl_quantize.core import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    EspdlQuantizeError,
    InterruptedCommandError,
    OutputFolderError,
    UsageError,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Searches esp-ppq settings for the best int8 accuracy that an ESP32 chip can run.",
    epilog="Exit codes: 0 done, 1 refused, 2 usage, 3 contract, 4 setting, 5 iteration failed, "
    "6 installation or device, 7 output folder, 130 interrupted.",
)


def _print_version(*, asked: bool) -> None:
    if asked:
        print(f"espdl-quantize {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


_COMMANDS: tuple[Callable[..., None], ...] = (
    init,
    schema,
    check,
    run,
    tune,
    engines,
    verify,
    compare,
    report,
    watch,
    diff,
    lint,
    cost,
    deploy,
    device_log,
    final,
    repeat,
    mcp,
)
"""In the order of the help."""

for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(skill_app, name="skill")

_OF_THE_DISK = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EROFS,
        errno.EPERM,
        errno.EIO,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)
"""Errors that are the disk's or the folder's, and no fault of this program."""


def main() -> None:
    """Run the command; an error that the user can fix is one line on stderr."""
    # Known before the arguments are parsed, for the errors of parsing them.
    as_json = "--json" in sys.argv[1:]
    try:
        app()
    except EspdlQuantizeError as error:
        fail(error, as_json=as_json)
    except SystemExit as ended:
        # Typer turns Ctrl-C into this code, without a word.
        if ended.code == EXIT_INTERRUPTED:
            cause = "interrupted; nothing half-written is left"
            fail(InterruptedCommandError(cause, "run it again"), as_json=as_json)
        if ended.code == EXIT_USAGE and as_json:
            print_error(_usage_error(ended))
        raise
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        cause = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
        hint = "free some space, or give a folder that you can write to"
        fail(OutputFolderError(cause, hint), as_json=as_json)


def _usage_error(ended: SystemExit) -> UsageError:
    """Return what typer has said on stderr about the arguments."""
    # Typer exits while it handles its own error, which is the only place that has the message.
    say = getattr(ended.__context__, "format_message", None)
    message = say() if callable(say) else "the arguments are not understood"
    return UsageError(message, "see --help")
