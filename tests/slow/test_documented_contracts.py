"""The contracts that the documentation shows run, and print what it shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_shown_output import OF_CHECK, missing, plain
from tests.test_readme import PAGES, ROOT, blocks

pytestmark = pytest.mark.slow


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "espdl_quantize", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_check_of_the_tutorial() -> None:
    shown = [b for b in blocks(PAGES["docs/tutorial/demo.md"], "text") if b.startswith(OF_CHECK)]
    printed = plain(command("check", "examples/fashion_mnist/user_quant.py"))
    assert len(shown) == 1
    assert missing(shown[0], printed) == []


def test_the_detector_and_its_page(tmp_path: Path) -> None:
    folder = tmp_path / "iter_0"
    contract = "examples/scene_detector/user_quant.py"
    printed = plain(command("run", contract, "--output-dir", str(folder), "--baseline"))
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
