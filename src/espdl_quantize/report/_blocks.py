"""A report in neutral blocks, and the register of the sections that are made of them.

A section is one function: it yields blocks from a :class:`Step`, and the page, the Markdown report
and the terminal each know how to show every kind of block. Text in blocks is plain: each renderer
escapes in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, TypeAlias

from espdl_quantize.record import FolderComparison, History, Iteration
from espdl_quantize.record.files import HTML_REPORT, REPORT
from espdl_quantize.report._comparison import build_comparison
from espdl_quantize.report._engine import engine_warnings
from espdl_quantize.report._finalize import FinalizePlan, FinalizeReason
from espdl_quantize.report.figures import Figure, GraphMap, Spark
from espdl_quantize.search import Decision, SearchState

LAST = 90
"""Where a section stands that does not say where."""


class Medium(Enum):
    """What a report is rendered for."""

    HTML = HTML_REPORT
    MARKDOWN = REPORT
    TERMINAL = "terminal"


@dataclass(frozen=True)
class Step:
    """What one comparison knows; every section is made of it.

    Attributes:
        situation: the history with resolved options.
        decision: the next step.
        plan: what this call writes.
        comparison: the content of comparison.json.
        done: what was written, in words.
    """

    situation: SearchState
    decision: Decision
    plan: FinalizePlan
    comparison: FolderComparison
    done: tuple[str, ...] = ()

    @property
    def history(self) -> History:
        """The iterations."""
        return self.situation.history

    @property
    def best(self) -> Iteration | None:
        """The best iteration."""
        return self.situation.history.best

    @property
    def reason(self) -> FinalizeReason | None:
        """Why the search was ended; None where it goes on."""
        return self.plan.reason


def make_step(situation: SearchState, decision: Decision, plan: FinalizePlan) -> Step:
    """Compare, and gather what the sections are made of."""
    history = situation.history
    warnings = [*(warning.text for warning in history.warnings), *engine_warnings(history)]
    warnings += situation.best_evidence.problems
    return Step(situation, decision, plan, build_comparison(situation, decision, plan, warnings))


@dataclass(frozen=True)
class Paragraph:
    """A line of text; ``kind`` is its look on the page."""

    shape: ClassVar[str] = "paragraph"
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Lines:
    """Lines that are shown as they are, such as a ranking on a terminal."""

    shape: ClassVar[str] = "lines"
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Bullets:
    """A list, under a heading of its own where it has one; ``empty`` stands for no items."""

    shape: ClassVar[str] = "bullets"
    items: tuple[str, ...]
    title: str = ""
    empty: str = ""
    kind: str = "findings"


@dataclass(frozen=True)
class Tile:
    """A figure with its title and what it rests on; ``share`` fills a bar, in percent."""

    kind: str
    title: str
    value: str
    notes: tuple[str, ...] = ()
    is_long: bool = False
    share: float | None = None


@dataclass(frozen=True)
class Tiles:
    """The figures at the top."""

    shape: ClassVar[str] = "tiles"
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    shape: ClassVar[str] = "code"
    id: str
    title: str
    language: str
    text: str


@dataclass(frozen=True)
class Column:
    """A column; ``is_name`` keeps its title as it is.

    ``page_only`` leaves it to the page; ``text_only`` to the others, where the page has its content
    beneath that of another column.
    """

    title: str
    kind: str = ""
    is_number: bool = False
    is_name: bool = False
    page_only: bool = False
    text_only: bool = False

    @property
    def page_title(self) -> str:
        """The title as the page writes it."""
        return self.title if self.is_name else self.title[:1].upper() + self.title[1:]


@dataclass(frozen=True)
class Cell:
    """A cell; what stands beneath its text, folded away or not, is for the page."""

    text: str
    badge: str = ""
    problems: tuple[str, ...] = ()
    details: str = ""
    notes: tuple[str, ...] = ()
    spark: Spark | None = None


@dataclass(frozen=True)
class TableRow:
    """A row of a table; the first cell names it."""

    cells: tuple[Cell, ...]
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """A table; ``empty`` stands for no rows."""

    shape: ClassVar[str] = "table"
    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    empty: str = ""

    @property
    def shown(self) -> tuple[int, ...]:
        """The places of the columns that the page shows: those that say anything in any row."""
        return tuple(
            at
            for at, column in enumerate(self.columns)
            if not column.text_only
            and (
                at == 0
                or not self.rows
                or any(
                    row.cells[at].text not in ("", "-")
                    or row.cells[at].problems
                    or row.cells[at].spark
                    for row in self.rows
                )
            )
        )


Block: TypeAlias = Paragraph | Lines | Bullets | Tiles | Code | Table | Figure | GraphMap
Build: TypeAlias = Callable[[Step], Iterator[Block]]


@dataclass(frozen=True)
class Section:
    """A section, and where it stands in each medium that shows it."""

    id: str
    title: str
    build: Build
    places: dict[Medium, int] = field(default_factory=dict)
    is_title_hidden: bool = False


SECTIONS: list[Section] = []
"""Every section, as :func:`section` has registered it."""


def section(
    title: str,
    *,
    html: int | None = LAST,
    markdown: int | None = LAST,
    terminal: int | None = LAST,
    is_title_hidden: bool = False,
) -> Callable[[Build], Build]:
    """Register a function as a section; where it yields no block, the section is left out.

    Args:
        title: heading; the page hides it where ``is_title_hidden``.
        html: place on the page, lower is earlier; None leaves it out there.
        markdown: place in final_report.md.
        terminal: place in what is printed; a section without a title has no heading there.
        is_title_hidden: the heading is for screen readers alone.
    """
    stated = {Medium.HTML: html, Medium.MARKDOWN: markdown, Medium.TERMINAL: terminal}
    places = {medium: place for medium, place in stated.items() if place is not None}

    def register(build: Build) -> Build:
        ident = build.__name__.replace("_", "-")
        SECTIONS.append(Section(ident, title, build, places, is_title_hidden))
        return build

    return register


def sections_of(step: Step, medium: Medium) -> Iterator[tuple[Section, list[Block]]]:
    """Yield the sections that a medium shows, in its order, each with its blocks."""
    chosen = [entry for entry in SECTIONS if medium in entry.places]
    for entry in sorted(chosen, key=lambda entry: entry.places[medium]):
        blocks = list(entry.build(step))
        if blocks:
            yield entry, blocks
