"""The site builds without a warning, opens without a network, and lists every file and key."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from espdl_quantize.chip._rules import DOUBTS, RULES
from espdl_quantize.record import ARTIFACTS, IterationRecord
from espdl_quantize.targets.ops import op_table

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    for file in site.rglob("*"):
        if file.suffix not in (".html", ".css"):
            continue
        text = file.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=.?(https?:[^ >]*)", text)
        loaded += re.findall(r"(?:url\(|@import )['\"]?(https?:[^)'\"]*)", text)
        assert not loaded, f"{file}: {loaded}"


def test_every_generated_part_was_filled_in(site: Path) -> None:
    for file in site.rglob("*.html"):
        assert "{{" not in file.read_text(encoding="utf-8"), file
    reference = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    assert "--write-next FILE" in reference
    assert "plateau_relative" in (site / "reference" / "search.html").read_text(encoding="utf-8")
    api = (site / "reference" / "api" / "tuning.html").read_text(encoding="utf-8")
    assert "The folder is the only state" in api
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="assets/report.png"' in home and (site / "assets" / "report.png").is_file()
    assert "esp-ppq's default" in html.unescape(home) and "assets/copy.js" in home
    for page in ("reference/api/worker.html", "contributing.html", "changelog.html"):
        assert page in home


def test_every_rule_of_the_chip_is_listed(site: Path) -> None:
    page = (site / "reference" / "chip-rules.html").read_text(encoding="utf-8")
    listed = re.findall(r"<td><code>([a-z ]+)</code></td>\s*<td>(?:fault|doubt)</td>", page)
    assert set(listed) == {*RULES, *DOUBTS, "order", "graph", "file"}


def test_the_reference_has_every_op_of_the_table(site: Path) -> None:
    page = html.unescape((site / "reference" / "esp-dl-ops.html").read_text(encoding="utf-8"))
    table = op_table()
    named = {*table.ops, *table.later, *table.remedies}
    assert {name for name in named if f"<code>{name}</code>" not in page} == set()
    assert "one group, or as many as input and output channels" in page


def test_the_reference_of_the_files_is_made_of_the_record(site: Path) -> None:
    page = html.unescape((site / "reference" / "files.html").read_text(encoding="utf-8"))
    keys = IterationRecord(value=0.5, model_sha256="0", draw=1).to_json()
    named = {*ARTIFACTS, *keys, "attempts", "internal_bytes", "resolved_setting", "_used"}
    missing = {name for name in named if f"<code>{name}</code>" not in page}
    assert missing - {"samples_shared_with_search"} == set()


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda path: path.stem
)
def test_a_guide_begins_with_a_sentence(page: Path) -> None:
    title, blank, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ") and not blank
    assert re.match(r"[A-Z`].* ", first), first


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_every_page_can_be_reached(page: Path) -> None:
    name = page.relative_to(ROOT / "docs").as_posix()
    assert f" {name}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
