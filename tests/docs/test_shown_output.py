"""What the pages show as output is what the commands on them print."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_readme import PAGES, ROOT, blocks

TABLE = ROOT / "benchmarks" / "recorded" / "fashion_mnist_esp32s3.zip"
SHOWN = [
    "docs/how-to/budgets.md",
    "docs/how-to/by-hand.md",
    "docs/how-to/int16.md",
]
"""The pages whose output a recorded search prints; tests/slow looks at those that need torch."""


def plain(text: str) -> str:
    """Return a text without the frames of tables and the breaking of lines."""
    return " ".join(text.replace("│", " ").split())


def missing(
    block: str, printed: str, is_in: Callable[[str, str], bool] = lambda line, text: line in text
) -> list[str]:
    """Return the lines of a block that were not printed; ``...`` at an end stands for the rest."""
    lines = [plain(line.removeprefix("...").removesuffix("...")) for line in block.splitlines()]
    return [line for line in lines if not is_in(line, printed)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    outputs: list[str] = []

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "espdl_quantize", *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "COLUMNS": "200"},
            check=False,
        )
        outputs.extend([done.stdout, done.stderr])

    replay = ("tune", "--recorded", str(TABLE), "--output-dir")
    (folder / "mine.json").write_text(blocks(PAGES["docs/how-to/by-hand.md"], "json")[0])
    run(*replay, "outputs", "--iterations", "5")
    run("compare")
    run("lint", "mine.json")
    run(*replay, "replay", "--iterations", "8")
    run(*replay, "replay", "--iterations", "4")
    run(*replay, "one_minute", "--time", "1m")
    run(*replay, "quiet", "--iterations", "1", "--pace", "2", "--progress-json", "lines")
    return plain(" ".join(outputs))


@pytest.mark.parametrize("page", SHOWN)
def test_the_output_on_a_page_is_printed(page: str, printed: str) -> None:
    shown = blocks(PAGES[page], "text")
    assert shown
    for block in shown:
        assert missing(block, printed) == []


@pytest.mark.usefixtures("printed")
def test_the_lines_of_progress_have_the_keys_that_are_listed(folder: Path) -> None:
    section = PAGES["docs/reference/files.md"].split("<!-- progress events -->")[1]
    listed = {}
    for row in section.splitlines():
        if row.startswith("| `"):
            event, _, keys = row.strip("| ").split(" | ", 2)
            listed[event.strip("`")] = set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", keys)))
    written: dict[str, set[str]] = {}
    for line in (folder / "lines").read_text().splitlines():
        entry = json.loads(line)
        written.setdefault(entry["event"], set()).update(entry.keys() - {"time", "event"})
    assert written
    assert {event: listed[event] for event in written} == written


def test_a_wrong_line_is_found() -> None:
    assert missing("iter_0 rank 1\n│ iter_1 │ x ...\n", "iter_0 rank 1 iter_1 x y") == []
    assert missing("iter_0 rank 2\n", "iter_0 rank 1") == ["iter_0 rank 2"]


def test_the_exit_codes_page_shows_real_errors(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"iteration_id": 1, "tqt": {"enabled": true}}')
    done = subprocess.run(
        [sys.executable, "-m", "espdl_quantize", "lint", "broken.json", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    page = PAGES["docs/reference/exit-codes.md"]
    assert plain(blocks(page, "text")[0]) in plain(done.stderr)
    assert plain(blocks(page, "json")[0]) == plain(done.stdout)
