"""Text for a terminal: what others wrote is made safe, and hints speak the command line."""

from __future__ import annotations

import re

from rich import markup

from espdl_quantize.core import SHELL

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tabs and line ends, and marks that turn the direction of text.

The names of ops come from a model, and messages quote files: either may hold an escape sequence
that moves the cursor, renames the window or writes to the clipboard.
"""


def printable(text: object) -> str:
    """Return text with control characters spelled out, line ends kept, and hints in our words."""
    words = SHELL.spell(text) if isinstance(text, str) else str(text)
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], words)


def escape(text: object) -> str:
    """Return text that rich prints as it is: neither markup nor an escape sequence."""
    return markup.escape(printable(text))


def say(text: object) -> None:
    """Print a line on stdout."""
    print(printable(text))
