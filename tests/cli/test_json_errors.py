"""With --json, every error is one JSON object on stdout; the words for people stay on stderr."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.contracts import CONFIG, write_contract
from tests.search.made_runs import SWEEP, swept, write_history


def failed(command: Command, *arguments: object, code: int) -> dict[str, Any]:
    done = command(*arguments, "--json")
    assert done.returncode == code, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["error"]["exit_code"] == code
    assert set(told["error"]) == {
        *("kind", "message", "cause", "hint", "hint_parts", "exit_code"),
        *(("faults",) if "faults" in told else ()),
    }
    return dict(told)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "nothing.py"], 3, "nothing.py is no file"),
        (["run", "nothing.py", "--output-dir", "o/iter_0", "--baseline"], 3, "is no file"),
        (["run", "x.py", "--output-dir", "o", "--setting", "none.json"], 4, "does not exist"),
        (["tune", "nothing.py"], 3, "is no file"),
        (["tune", "x.py", "--time", "soon"], 2, "'soon' is no duration"),
        (["compare", "--output-dir", "nowhere"], 7, "nowhere cannot be read"),
        (["lint", "none.json"], 4, "none.json does not exist"),
    ],
)
def test_every_command_says_it_in_json(
    command: Command, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    error = failed(command, *arguments, code=code)["error"]
    assert message in error["message"]
    assert error["hint"]
    told = command(*arguments, "--json").stderr.splitlines()
    assert told == [f"error: {error['message']}", f"  hint: {error['hint']}"]
    plain = command(*arguments)
    assert (plain.stdout, plain.stderr.splitlines()) == ("", told)


@pytest.mark.parametrize(
    "arguments", [["run", "x.py", "--output-dir", "o"], ["compare", "--bogus"], ["tune"]]
)
def test_wrong_arguments_are_said_in_json_too(
    command: Command, tmp_path: Path, arguments: list[str]
) -> None:
    error = failed(command, *arguments, code=2)["error"]
    assert error["message"] in " ".join(command(*arguments).stderr.split())


def test_the_faults_of_a_contract_are_listed_whatever_the_command(
    command: Command, tmp_path: Path
) -> None:
    path = write_contract(tmp_path, config={**CONFIG, "device": "tpu", "calib_steps": "4"})
    for arguments in (["check", path], ["tune", path]):
        told = failed(command, *arguments, code=3)
        assert [set(fault) for fault in told["faults"]] == [
            {"key", "found", "expected", "example"}
        ] * 2
        assert "2 faults" in told["error"]["message"]


def test_what_is_refused_after_a_comparison_is_in_the_comparison(
    command: Command, tmp_path: Path
) -> None:
    outputs = write_history(tmp_path / "outputs", swept())
    outputs.mkdir(exist_ok=True)
    done = command("compare", "--finalize", "--json")
    assert done.returncode == 1
    assert "no iteration has a score" in json.loads(done.stdout)["next_step_hint"]["refusal"]
    write_history(outputs, swept(*SWEEP))
    hint = json.loads(command("compare", "--finalize", "--json").stdout)["next_step_hint"]
    assert "refusal" not in hint
