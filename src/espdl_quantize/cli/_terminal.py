"""Text that others wrote, made safe for a terminal."""

from __future__ import annotations

import re

from rich import markup

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tabs and line ends, and marks that turn the direction of text.

The names of ops come from a model, and messages quote files: either may hold an escape sequence
that moves the cursor, renames the window or writes to the clipboard.
"""


def printable(text: object) -> str:
    """Return text with its control characters spelled out, and line ends kept."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], str(text))


def escape(text: object) -> str:
    """Return text that rich prints as it is: neither markup nor an escape sequence."""
    return markup.escape(printable(text))


def say(text: object) -> None:
    """Print a line on stdout."""
    print(printable(text))
