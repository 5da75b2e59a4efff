"""The commands of the README exist as they are written there."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from espdl_quantize.cli._app import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {
    name: {option for parameter in command.params for option in parameter.opts}
    for name, command in COMMANDS.items()
}
LINES = re.findall(r"^espdl-quantize .*$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_a_line_can_be_pasted(line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    flags = {argument for argument in arguments if argument.startswith("--")}
    assert flags <= OPTIONS[name]


def test_every_option_that_is_named_exists() -> None:
    known = set().union(*OPTIONS.values()) | {"--index-url"}
    assert set(re.findall(r"--[a-z][a-z-]+", README)) <= known


def test_every_command_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \|", README, flags=re.MULTILINE)) == set(COMMANDS)


def test_the_setting_that_one_line_writes_is_the_one_the_next_runs() -> None:
    written = re.search(r"--write-next (\S+)", README)
    assert written is not None
    assert f"--setting {written[1]}" in README
