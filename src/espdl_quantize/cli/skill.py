"""``espdl-quantize skill``: puts the Agent Skill where agent tools look, and takes it away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from espdl_quantize import skill as skills
from espdl_quantize.cli._options import AsJson
from espdl_quantize.cli.terminal import escape
from espdl_quantize.core import UsageError, dumps

skill_app = typer.Typer(
    no_args_is_help=True, help="Install the Agent Skill, with which a coding agent drives this."
)

Agents = Annotated[
    list[str] | None,
    typer.Option("--agent", help=f"The tool: {', '.join(skills.AGENTS)}. May be repeated."),
]
SkillsFolder = Annotated[
    Path | None,
    typer.Option("--path", help="Another tool's folder of skills; the skill gets a folder in it."),
]
ForUser = Annotated[
    bool, typer.Option("--user", help="In the home folder, for all projects; else in this one.")
]
Force = Annotated[bool, typer.Option("--force", help="Lose changes that were made by hand.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")]


@skill_app.command()
def install(
    *,
    agent: Agents = None,
    path: SkillsFolder = None,
    user: ForUser = False,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write the skill, or bring it up to date.

    Without --agent and --path, for every tool that this project uses. Nothing that was changed by
    hand is overwritten.
    """
    outcomes = skills.install(_places(agent, path, for_user=user), force=force, dry_run=dry_run)
    verb = "would write" if dry_run else "wrote"
    _print(outcomes, verb, as_json=as_json, dry_run=dry_run)


@skill_app.command()
def remove(
    *,
    agent: Agents = None,
    path: SkillsFolder = None,
    user: ForUser = False,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete what install wrote; files of your own stay.

    Without --agent and --path, from every place of this project that has the skill.
    """
    if agent or path:
        places = _places(agent, path, for_user=user)
    else:
        level = "user" if user else "project"
        places = [outcome.place for outcome in _installed() if outcome.place.level == level]
    outcomes = skills.remove(places, force=force, dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    _print(outcomes, verb, as_json=as_json, dry_run=dry_run)


@skill_app.command()
def status(
    *,
    path: SkillsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say where the skill is installed, and whether it is up to date or was changed by hand."""
    outcomes = _installed()
    if path:
        outcomes = [skills.state_of(place) for place in _places(None, path, for_user=False)]
    if as_json:
        print(dumps({"ok": True, "skill": _head(), "places": _rows(outcomes)}), end="")
        return
    console = Console(highlight=False)
    if not outcomes:
        console.print("the skill is not installed; 'espdl-quantize skill install' does it")
        return
    table = Table()
    for column in ("tool", "folder", "state", "version", "changed"):
        table.add_column(column, overflow="fold")
    for row in outcomes:
        cells = (row.place.agent or "", row.place.folder, row.state, row.version or "")
        table.add_row(*(escape(str(cell)) for cell in (*cells, ", ".join(row.kept))))
    console.print(table)


def _places(agents: list[str] | None, path: Path | None, *, for_user: bool) -> list[skills.Place]:
    if agents and path:
        raise UsageError("--agent and --path are both given", "give one of them")
    if path is not None:
        if for_user:
            raise UsageError("--path and --user are both given", "give one of them")
        return [skills.Place(None, "path", path.resolve() / skills.SKILL_NAME)]
    root = Path.home() if for_user else Path.cwd()
    if not agents:
        return skills.places_in_use(root, for_user=for_user)
    places = [skills.place(name, root, for_user=for_user) for name in dict.fromkeys(agents)]
    return list({place.folder.resolve(): place for place in places}.values())


def _installed() -> list[skills.Outcome]:
    states: dict[Path, skills.Outcome] = {}
    for place in skills.known_places(Path.cwd(), Path.home()):
        if place.folder.is_dir():
            states.setdefault(place.folder.resolve(), skills.state_of(place))
    return list(states.values())


def _head() -> dict[str, str]:
    return {"name": skills.SKILL_NAME, "source": str(skills.skill_source())}


def _rows(outcomes: list[skills.Outcome]) -> list[dict[str, Any]]:
    return [
        {
            "agent": row.place.agent,
            "level": row.place.level,
            "folder": str(row.place.folder),
            "state": row.state,
            "version": row.version,
            "written": list(row.written),
            "deleted": list(row.deleted),
            "kept": list(row.kept),
        }
        for row in outcomes
    ]


def _print(outcomes: list[skills.Outcome], verb: str, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        head = {"ok": True, "dry_run": dry_run, "skill": _head()}
        print(dumps({**head, "places": _rows(outcomes)}), end="")
        return
    if not outcomes:
        print("the skill is not installed in this project")
    for row in outcomes:
        names = row.written or row.deleted
        print(f"{row.place.folder}: {f'{verb} {len(names)} files' if names else 'nothing to do'}")
        for name in names:
            print(f"  {name}")
        if row.kept:
            print(f"  left alone, not this package's: {', '.join(row.kept[:10])}")
