"""The contracts that the documentation shows run, and print what it shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_shown_output import missing, plain
from tests.test_readme import PAGES, ROOT, blocks

pytestmark = pytest.mark.slow

DEMO = "examples/fashion_mnist/user_quant.py"


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "espdl_quantize", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "150"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return plain(done.stdout + done.stderr)


def test_the_tutorial(tmp_path: Path) -> None:
    check, said, table, *_ = blocks(PAGES["docs/tutorial/demo.md"], "text")
    assert missing(check, command("check", DEMO)) == []
    # The rest of the table takes minutes.
    first = "".join(line + "\n" for line in table.splitlines()[1:4])
    assert first.count("│ new best") == 1
    printed = command("tune", DEMO, "--output-dir", str(tmp_path), "--iterations", "2")
    assert missing(said, printed) == []
    assert missing(first, printed) == []


def test_the_detector_and_its_page(tmp_path: Path) -> None:
    folder = tmp_path / "iter_0"
    contract = "examples/scene_detector/user_quant.py"
    printed = command("run", contract, "--output-dir", str(folder), "--baseline")
    page = PAGES["docs/how-to/own-detector.md"]
    shown = next(b for b in blocks(page, "text") if b.startswith("scene_detector"))
    assert missing(shown, printed) == []
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 < metrics["map75"] < metrics["map50"]

    index = json.loads((folder / "iteration_index.json").read_text())
    section = PAGES["docs/reference/files.md"].split("<!-- index keys -->")[1].split("\n### ")[0]
    named = [
        re.findall(r"`(\w+)`", row.split("|")[1]) for row in section.splitlines() if "|" in row
    ]
    assert {name for row in named for name in row} == set(index)
