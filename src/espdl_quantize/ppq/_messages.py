"""Where esp-ppq's own messages go."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from espdl_quantize.ppq.patches import When, assign


def print_message(handler: Any, message: str, level: Any) -> None:
    """Print a message of esp-ppq's as its handler does, but to the standard output of this moment.

    esp-ppq keeps the standard output that it was imported under. Where a program had redirected it
    meanwhile, to a file that is closed by now, each message ended the export with an error.

    Args:
        handler: esp-ppq's; one that writes to a file of its own keeps to it.
        message: one.
        level: of the message.
    """
    if handler._level <= level:
        stream = sys.stdout if handler._file_name is None else handler._fd
        if stream is not None:
            stream.write("\r" + message + "\n")
            stream.flush()


def follow_standard_output() -> None:
    """Let every message of esp-ppq go to the standard output of its moment, from now on.

    It imports esp-ppq, and so torch: what only reads a folder must not call it.
    """
    # A version that lacks the name is told by the check of the installation.
    with contextlib.suppress(ImportError, AttributeError):
        assign(When.IN_USE, print_message)
