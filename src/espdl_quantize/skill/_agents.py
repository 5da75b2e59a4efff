"""Where agent tools look for skills: the one table of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.core import Hint, Option, UsageError
from espdl_quantize.skill._source import SKILL_NAME


@dataclass(frozen=True)
class Agent:
    """One agent tool.

    Attributes:
        name: what the user names it by.
        title: the tool's own name.
        project: its folder of skills in a project.
        user: its folder of skills in the user's home, for all projects.
        sign: what a project has where the tool is in use.
    """

    name: str
    title: str
    project: str
    user: str
    sign: str


_TABLE = (
    # The folder that several tools share comes first: it is the place where nothing else fits.
    Agent("agents", "any tool that reads .agents", ".agents/skills", ".agents/skills", ".agents"),
    Agent("claude", "Claude Code", ".claude/skills", ".claude/skills", ".claude"),
    Agent("codex", "Codex", ".codex/skills", ".codex/skills", ".codex"),
    # .github alone says nothing: most projects have one.
    Agent("copilot", "GitHub Copilot", ".github/skills", ".copilot/skills", ".github/skills"),
    Agent("cursor", "Cursor", ".cursor/skills", ".cursor/skills", ".cursor"),
    Agent("gemini", "Gemini CLI", ".gemini/skills", ".gemini/skills", ".gemini"),
    Agent("goose", "Goose", ".goose/skills", ".config/goose/skills", ".goose"),
    Agent("opencode", "OpenCode", ".opencode/skills", ".config/opencode/skills", ".opencode"),
    Agent("roo", "Roo Code", ".roo/skills", ".roo/skills", ".roo"),
    Agent("windsurf", "Windsurf", ".windsurf/skills", ".codeium/windsurf/skills", ".windsurf"),
)
AGENTS: Mapping[str, Agent] = {agent.name: agent for agent in _TABLE}
"""Every tool by its name; for all others, the user names the folder."""


@dataclass(frozen=True)
class Place:
    """A folder that holds the skill or may hold it.

    Attributes:
        agent: the tool that reads it; None for a folder that the user named.
        level: "project", "user" or "path".
        folder: of the skill itself.
    """

    agent: str | None
    level: str
    folder: Path


def place(agent: str, root: Path, *, for_user: bool = False) -> Place:
    """Return where a tool looks.

    Args:
        agent: a name of :data:`AGENTS`.
        root: the project's folder, or the user's home.
        for_user: ``root`` is the user's home.

    Raises:
        UsageError: nobody knows the tool.
    """
    known = AGENTS.get(agent)
    if known is None:
        raise UsageError(
            f"the agent tool {agent!r} is not known",
            Hint(
                f"give one of {', '.join(AGENTS)}, or ",
                Option.PATH,
                " with the tool's folder of skills",
            ),
        )
    below = known.user if for_user else known.project
    return Place(agent, "user" if for_user else "project", root / below / SKILL_NAME)


def known_places(project: Path, home: Path) -> list[Place]:
    """Return every place of the table, those of the project first."""
    in_project = [place(name, project) for name in AGENTS]
    return in_project + [place(name, home, for_user=True) for name in AGENTS]


def places_in_use(root: Path, *, for_user: bool = False) -> list[Place]:
    """Return the places of the tools that a project uses; the shared place where none is.

    Two tools may share one folder by a link: it is named once.
    """
    places: dict[Path, Place] = {}
    for agent in _TABLE:
        sign = Path(agent.user).parent if for_user else Path(agent.sign)
        if (root / sign).exists():
            candidate = place(agent.name, root, for_user=for_user)
            places.setdefault(candidate.folder.resolve(), candidate)
    return list(places.values()) or [place(_TABLE[0].name, root, for_user=for_user)]
