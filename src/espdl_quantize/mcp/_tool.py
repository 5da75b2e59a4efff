"""A tool of the server, as the modules of tools list theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp_types import ToolAnnotations

RUNS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)
"""Executes the user's module."""
REPLACES = RUNS.model_copy(update={"destructive_hint": True})
"""Executes it, and may be told to replace a finished iteration."""
READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
ENDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
"""Ends something, or replaces what was written before."""
WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)


@dataclass(frozen=True)
class Tool:
    """One tool; its docstring describes it to the client.

    Attributes:
        function: what it does.
        title: for people.
        annotations: what a client may rely on.
        is_text: it returns a text to read, no structured content.
    """

    function: Callable[..., Any]
    title: str
    annotations: ToolAnnotations
    is_text: bool = False
