"""What the README and the other pages name exists: commands, options, fields, and their code."""

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from espdl_quantize.cli import app
from espdl_quantize.setting import parse_setting

ROOT = Path(__file__).parent.parent
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAGES = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
README = PAGES["README.md"]
GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands

FOREIGN = {"--index-url", "--extra-index-url", "--upgrade"}
"""Options of other programs that the pages name."""


def options_of(command: Any) -> set[str]:
    options = {option for parameter in command.params for option in parameter.opts}
    return options.union({"--help"}, *map(options_of, getattr(command, "commands", {}).values()))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def lines(page: str) -> list[str]:
    """Return the command lines of a page, of code blocks and within sentences."""
    joined = page.replace("\\\n", " ")
    commands = re.findall(r"^espdl-quantize .*$", joined, flags=re.MULTILINE)
    return commands + re.findall(r"`(espdl-quantize [a-z][^`]*)`", joined)


LINES = [(name, line) for name, page in PAGES.items() for line in lines(page)]
on_every_page = pytest.mark.parametrize("page", PAGES)


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_line_can_be_pasted(page: str, line: str) -> None:
    _, name, *arguments = shlex.split(re.split(r" [|>&]", line)[0], comments=True)
    command = COMMANDS[name]
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments.pop(0)]
    flags = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
    assert flags <= options_of(command), page


@on_every_page
def test_every_option_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", PAGES[page]))
    assert named <= options_of(GROUP) | FOREIGN


@on_every_page
def test_code_parses(page: str) -> None:
    for block in blocks(PAGES[page], "python"):
        ast.parse(block)
    for block in blocks(PAGES[page], "json"):
        payload = json.loads(block)
        if "iteration_id" in payload:
            parse_setting(payload)


def test_every_command_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", README, flags=re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_is_named_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make (\w+)", PAGES[page], flags=re.MULTILINE))
    assert named
    assert named <= targets


def test_the_changelog_has_the_sections_of_keep_a_changelog() -> None:
    known = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    page = PAGES["CHANGELOG.md"]
    assert re.findall(r"^## (\w+)", page, flags=re.MULTILINE)[0] == "Unreleased"
    sections = re.findall(r"^### (\w+)$", page, flags=re.MULTILINE)
    assert sections
    assert set(sections) <= set(known)
    assert sections[:4] == ["Added", "Changed", "Fixed", "Security"]


def test_the_setting_that_one_line_writes_is_the_one_the_next_runs() -> None:
    page = PAGES["docs/how-to/by-hand.md"]
    written = re.search(r"--write-next (\S+)", page)
    assert written is not None
    assert f"--setting {written[1]}" in page
