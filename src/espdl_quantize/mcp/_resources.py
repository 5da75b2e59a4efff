"""What an agent may read before it acts: the references of the skill, and the setting's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.resources import FileResource, FunctionResource

from espdl_quantize.setting import json_schema

_SCHEME = "espdl-quantize://"


def references_folder() -> Path | None:
    """Return the folder of the skill's references; None where they are not installed."""
    beside = Path(__file__).resolve().parents[3] / "skill/espdl-quantize/references"
    return beside if beside.is_dir() else None


def add_resources(server: MCPServer[Any]) -> None:
    """Offer the setting's JSON Schema, and every reference that is there."""
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
    folder = references_folder()
    for path in sorted(folder.glob("*.md")) if folder is not None else []:
        server.add_resource(
            FileResource(
                uri=f"{_SCHEME}references/{path.stem}",
                name=path.stem,
                title=_title(path),
                mime_type="text/markdown",
                path=path,
            )
        )


def _title(path: Path) -> str:
    """Return the first heading of a Markdown file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    return path.stem
