"""What an agent may read before it acts: the skill's texts, and the setting's schema."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.resources import FileResource, FunctionResource

from espdl_quantize.core import InstallationError
from espdl_quantize.setting import json_schema
from espdl_quantize.skill import skill_source

_SCHEME = "espdl-quantize://"


def references_folder() -> Path | None:
    """Return the folder of the skill's references; None where the skill is not installed."""
    with contextlib.suppress(InstallationError):
        return skill_source() / "references"
    return None


def add_resources(server: MCPServer[Any]) -> None:
    """Offer the setting's JSON Schema, the skill's references and the contracts to learn from.

    The addresses follow the skill's folders, so that a link from one text to another holds.
    """
    server.add_resource(
        FunctionResource.from_function(
            json_schema,
            uri=f"{_SCHEME}setting-schema",
            name="setting-schema",
            title="JSON Schema of a setting",
            description="Every field of a setting, for run_iteration and lint_setting.",
            mime_type="application/schema+json",
        )
    )
    for path in _texts():
        is_code = path.suffix == ".py"
        server.add_resource(
            FileResource(
                uri=f"{_SCHEME}skill/{path.parent.name}/{path.name}",
                name=path.name,
                title=path.name if is_code else _title(path),
                mime_type="text/x-python" if is_code else "text/markdown",
                path=path,
            )
        )


def _texts() -> Iterator[Path]:
    references = references_folder()
    if references is not None:
        yield from sorted(references.glob("*.md"))
        yield from sorted((references.parent / "assets").glob("*.py"))


def _title(path: Path) -> str:
    """Return the first heading of a Markdown file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    return path.stem
