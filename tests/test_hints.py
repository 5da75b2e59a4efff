"""The same remedy by each door, and no door's words in what the others read."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import typer

import espdl_quantize
from espdl_quantize.cli import app
from espdl_quantize.core import PLAIN, PYTHON, SHELL, Command, Hint, Option, Spelling
from espdl_quantize.mcp._roots import Roots
from espdl_quantize.mcp._spelling import MCP, SHELL_ONLY, TOOLS
from espdl_quantize.mcp.jobs import JobStore
from espdl_quantize.mcp.server import make_server

OVERWRITE = Hint("give another ", Option.OUTPUT_DIR, ", or pass ", Option.OVERWRITE.of(True))
WRITE = Hint(Command.COMPARE.of(Option.WRITE_NEXT.of("FILE")), " writes it")
SAME = [
    (OVERWRITE, PLAIN, "give another output_dir, or pass overwrite"),
    (OVERWRITE, SHELL, "give another --output-dir, or pass --overwrite"),
    (OVERWRITE, MCP, "give another output_dir, or pass overwrite: true"),
    (OVERWRITE, PYTHON, "give another output_dir, or pass overwrite=True"),
    (Hint(Option.ENGINE.of("reference")), SHELL, "--engine reference"),
    (Hint(Option.ENGINE.of("reference")), MCP, 'options.engine: "reference"'),
    (Hint(Option.ENGINE.of("reference")), PYTHON, "engine='reference'"),
    (WRITE, PLAIN, "'compare with write_next FILE' writes it"),
    (WRITE, SHELL, "'espdl-quantize compare --write-next FILE' writes it"),
    (WRITE, MCP, "next_step writes it"),
    (WRITE, PYTHON, "espdl_quantize.report.compare(write_next='FILE') writes it"),
    (Hint(Command.COMPARE.of(Option.FINALIZE.of(True))), MCP, "finalize"),
    (Hint(Command.FINAL), MCP, "final_score"),
    (Hint(Command.FINAL), SHELL, "'espdl-quantize final'"),
    (Hint(Option.NO_SCORE.of(True)), SHELL, "--no-score"),
    (Hint(Option.NO_SCORE.of(True)), MCP, "score: false"),
    (Hint(Option.IN_PROCESS.of(True)), MCP, "'in_process', which only the command has"),
]
SOURCE = Path(espdl_quantize.__file__).parent
DOORS = ("cli", "mcp")
# They write shell lines into files, for a reader to paste.
PASTED = (
    "report/_commands.py",
    "deploy/_project.py",
    "skill/_manifest.py",
    # The reference of the folder, which docs/reference/files.md is made of.
    "record/files.py",
)
COMMANDS = "|".join(Command)


@pytest.mark.parametrize(("hint", "door", "words"), SAME)
def test_each_door_spells_a_remedy_in_its_own_words(hint: Hint, door: Spelling, words: str) -> None:
    assert door.spell(hint) == words


def commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    return dict(group.commands)  # type: ignore[attr-defined]


def test_the_command_line_has_every_option_and_command() -> None:
    known = {
        name
        for command in (*commands().values(), *commands()["skill"].commands.values())
        for parameter in command.params
        for name in parameter.opts
    }
    for option in Option:
        assert SHELL.spell(Hint(option)) in known
    assert {str(command) for command in Command} <= set(commands())


def test_the_server_has_every_argument_and_tool(tmp_path: Path) -> None:
    roots = Roots([tmp_path])
    server = make_server(roots, JobStore(tmp_path / "state", tmp_path))
    tools = {tool.name: tool for tool in anyio.run(server.list_tools)}
    names = set()
    for tool in tools.values():
        properties = tool.input_schema["properties"]
        grouped = properties.get("options", {}).get("properties", {})
        names |= {*properties, *(f"options.{name}" for name in grouped)}
    for option in set(Option) - set(SHELL_ONLY) - {Option.FINALIZE}:
        assert MCP.spell(Hint(option)).partition(":")[0] in names, option
    assert not names.intersection(SHELL_ONLY)
    assert {tool for tool in TOOLS.values() if " " not in tool} <= set(tools)


@pytest.mark.parametrize("command", Command)
def test_the_functions_that_python_reads_of_exist(command: Command) -> None:
    words = PYTHON.spell(Hint(command))
    if words.startswith("'"):
        return
    module, _, function = words.removesuffix("()").rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings of a module that are no docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in described:
            continue
        if isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_library_message_speaks_the_command_line() -> None:
    shell = re.compile(rf"(?<![\w-])--[a-z][a-z-]+|espdl-quantize ({COMMANDS})\b|'({COMMANDS})'")
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).as_posix()
        if name.startswith(DOORS) or name in PASTED or name == "core/hints.py":
            continue
        for line, text in texts(file):
            match = shell.search(text)
            assert match is None, f"{name}:{line} says {match[0]!r}"
