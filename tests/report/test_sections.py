"""A section is one function, shown on the page, in the Markdown report and on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from espdl_quantize.record.comparison import ComparedIteration, FolderComparison
from espdl_quantize.report import compare
from espdl_quantize.report._blocks import (
    SECTIONS,
    Block,
    Bullets,
    Cell,
    Code,
    Column,
    Lines,
    Medium,
    Paragraph,
    Step,
    Table,
    TableRow,
    Tile,
    Tiles,
    section,
)
from espdl_quantize.report._commands import program
from espdl_quantize.report.figures import Figure
from tests.report.scenes import FLAGS, SCENES, anonymous

RECORDED = Path(__file__).with_name("recorded")
FILES = sorted(file.stem for file in RECORDED.glob("*.json"))
NASTY = "<i>nasty</i> | `tick` \x1b[31m\u202e"


@pytest.mark.parametrize("name", FILES)
def test_comparison_json_is_written_as_before_byte_for_byte(tmp_path: Path, name: str) -> None:
    scene, _, flag = name.rpartition("-")
    outputs = tmp_path / "outputs"
    SCENES[scene](outputs)
    compare(outputs, **FLAGS[flag])
    written = (outputs / "comparison.json").read_text("utf-8")
    recorded = (RECORDED / f"{name}.json").read_text("utf-8")
    assert anonymous(written, outputs, program()) == recorded


@pytest.mark.parametrize("name", FILES)
def test_a_recorded_comparison_is_read_back_whole(name: str) -> None:
    content = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    assert FolderComparison.model_validate(content).to_json() == content


def test_the_recorded_comparisons_hold_every_key() -> None:
    """A part that is None or empty in every file would be compared with nothing."""
    texts = [(RECORDED / f"{name}.json").read_text("utf-8") for name in FILES]
    parts = [json.loads(text) for text in texts]
    rows = [row for content in parts for row in content["iterations"]]
    hints = [content["next_step_hint"] for content in parts]
    for key in ComparedIteration.model_fields:
        assert any(row[key] not in (None, [], "") for row in rows), key
    for key in ("setting", "phase5_signals", "finalize_reason", "refusal", "crashed_passes"):
        assert any(hint.get(key) for hint in hints), key
    assert any(content["excluded_iterations"] for content in parts)
    assert any(content["final"]["scores"] for content in parts)


@pytest.fixture
def added() -> Iterator[list[Block]]:
    """The blocks of one more section, which stands in every medium."""
    blocks: list[Block] = []

    @section("One more")
    def one_more(step: Step) -> Iterator[Block]:
        assert step.best is not None
        yield from blocks

    yield blocks
    del SECTIONS[-1]


BLOCKS: dict[str, Block] = {
    "paragraph": Paragraph(f"word {NASTY}"),
    "bullets": Bullets((f"word {NASTY}", "second"), title=f"heading {NASTY}"),
    "no items": Bullets((), empty="word: nothing"),
    "code": Code("more", "Copy me", "python", "word = 1"),
    "table": Table(
        "more",
        "caption",
        (Column("a", is_number=True), Column("b")),
        (TableRow((Cell("word"), Cell(NASTY, problems=(NASTY,), details=NASTY)), is_best=True),),
    ),
    "tiles": Tiles((Tile("best", "word", NASTY, (NASTY,), share=50.0),)),
    "figure": Figure("more", "title", "caption", f"word {NASTY}", [{"type": "bar", "y": [1]}]),
    "empty figure": Figure("more", "title", "", empty=f"word {NASTY}"),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_of_one_function_is_shown_everywhere(
    tmp_path: Path, added: list[Block], kind: str
) -> None:
    added.append(BLOCKS[kind])
    outputs = tmp_path / "outputs"
    SCENES["target"](outputs)
    result = compare(outputs, finalize=True)
    page = (outputs / "report.html").read_text("utf-8")
    texts = {
        Medium.HTML: page.split('aria-labelledby="h-one-more"')[1].split("</section>")[0],
        Medium.MARKDOWN: (outputs / "final_report.md").read_text("utf-8").split("## One more")[1],
        Medium.TERMINAL: "\n".join(result.lines).split("One more:")[1],
    }
    for text in texts.values():
        assert "word" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<i>" not in texts[Medium.HTML]
    assert "<i>" not in texts[Medium.MARKDOWN]


def test_lines_stand_on_the_terminal_as_they_are(tmp_path: Path, added: list[Block]) -> None:
    added.append(Lines(("   word",)))
    SCENES["target"](tmp_path)
    assert "   word" in compare(tmp_path).lines


def test_a_section_without_blocks_is_left_out(tmp_path: Path, added: list[Block]) -> None:
    SCENES["target"](tmp_path)
    lines = compare(tmp_path, finalize=True).lines
    assert added == []
    assert not any("One more" in line for line in lines)
    assert "One more" not in (tmp_path / "report.html").read_text("utf-8")
    assert "One more" not in (tmp_path / "final_report.md").read_text("utf-8")
