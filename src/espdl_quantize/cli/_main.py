"""Runs the command; what ends it is told in one line, with an exit code that says what it was."""

from __future__ import annotations

import errno
import sys

from espdl_quantize.cli._app import app
from espdl_quantize.cli._failure import fail, print_usage_error
from espdl_quantize.core import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    EspdlQuantizeError,
    InterruptedCommandError,
    OutputFolderError,
)

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
        fail(error, as_json)
    except SystemExit as ended:
        # Typer turns Ctrl-C into this code, without a word.
        if ended.code == EXIT_INTERRUPTED:
            told = "interrupted; nothing half-written is left"
            fail(InterruptedCommandError(told, "run it again"), as_json)
        if ended.code == EXIT_USAGE and as_json:
            print_usage_error(ended)
        raise
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        told = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
        hint = "free some space, or give a folder that you can write to"
        fail(OutputFolderError(told, hint), as_json)
