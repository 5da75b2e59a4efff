"""Blocks as Markdown and as lines of a terminal; the page has its own template."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.core import SHELL
from espdl_quantize.report import sections
from espdl_quantize.report._blocks import (
    Block,
    Bullets,
    Code,
    Lines,
    Medium,
    Paragraph,
    Step,
    Table,
    Tiles,
    sections_of,
)
from espdl_quantize.report._escape import md, plain
from espdl_quantize.report.figures import Figure, GraphMap

__all__ = ["markdown_sections", "sections", "terminal_lines"]

_LONGEST = 100_000
"""Characters of a text; the sections cut what comes from files."""


def markdown_sections(step: Step) -> Iterator[str]:
    """Yield every section of final_report.md."""
    for entry, blocks in sections_of(step, Medium.MARKDOWN):
        yield "\n\n".join([f"## {entry.title}", *(markdown_block(block) for block in blocks)])


def terminal_lines(step: Step) -> Iterator[str]:
    """Yield what a comparison prints, without control characters."""
    for entry, blocks in sections_of(step, Medium.TERMINAL):
        if entry.title:
            yield f"{entry.title}:"
        for block in blocks:
            yield from _printed(block)


def markdown_block(block: Block) -> str:
    """Write a block as Markdown."""
    match block:
        case Paragraph():
            return _md(block.text)
        case Lines():
            return "\n".join(f"{_md(line)}  " for line in block.lines)
        case Bullets():
            items = [f"- {_md(item)}" for item in block.items] or [f"- {_md(block.empty)}"]
            return (f"### {_md(block.title)}\n\n" if block.title else "") + "\n".join(items)
        case Tiles():
            return "\n".join(f"- {_md(tile)}" for tile in _tiles(block))
        case Code():
            return f"```{block.language}\n{_fenced(block)}\n```"
        case Table():
            return _markdown_table(block)
        case Figure() | GraphMap():
            return _md(_alt(block))


def _md(text: str) -> str:
    return md(text, _LONGEST)


def _fenced(block: Code) -> str:
    """Return the text; in JSON, what could end the fence is written as a JSON escape."""
    if block.language != "json":
        return block.text
    return block.text.replace("<", "\\u003c").replace("`", "\\u0060")


def _markdown_table(table: Table) -> str:
    places = [at for at, column in enumerate(table.columns) if not column.page_only]
    rows = [[_md(table.columns[at].title) for at in places], ["---" for _ in places]]
    rows += [[_md(row.cells[at].text) for at in places] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _printed(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            yield f"  {plain(block.text, _LONGEST)}"
        case Lines():
            yield from map(SHELL.spell, block.lines)
        case Bullets():
            if block.title:
                yield f"  {plain(block.title)}:"
            for item in block.items or (block.empty,):
                yield f"  - {plain(item, _LONGEST)}"
        case Tiles():
            for tile in _tiles(block):
                yield f"  - {plain(tile, _LONGEST)}"
        case Code():
            yield from (f"  {plain(line, _LONGEST)}" for line in block.text.splitlines())
        case Table():
            places = [at for at, column in enumerate(block.columns) if not column.page_only]
            for row in block.rows:
                cells = (f"{block.columns[at].title} {row.cells[at].text}" for at in places)
                yield f"  {plain(', '.join(cells), _LONGEST)}"
        case Figure() | GraphMap():
            yield f"  {plain(_alt(block), _LONGEST)}"


def _alt(block: Figure | GraphMap) -> str:
    return block.alt or (block.empty if isinstance(block, Figure) else "")


def _tiles(block: Tiles) -> Iterator[str]:
    for tile in block.tiles:
        notes = f" ({'; '.join(tile.notes)})" if tile.notes else ""
        yield f"{tile.title}: {tile.value}{notes}"
