"""Tables for a terminal of any width: no word is broken, whole columns give way instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from espdl_quantize.cli.terminal import printable

_LONG = 30
"""Characters of a word; a longer one, such as the path of an op, may be parted where it has a
separator."""
_SHORTEST = 12
_PARTS = re.compile(r"[^/(,=]*[/(,=]+|[^/(,=]+")


def fitted_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    droppable: Sequence[str] = (),
    starred: Collection[int] = (),
    title: str | None = None,
    star: str = "\u2605",
) -> Table:
    """Return a table that fits into a terminal.

    Columns without a value are left out. Where there is too little room, the droppable ones go, in
    their order; then texts are wrapped between words, and long names parted at a separator.

    Args:
        heads: of the columns.
        rows: texts, as many in each as there are heads.
        width: characters of the terminal.
        droppable: heads of the columns that may be left out, the first to go first.
        starred: places of the rows that are marked with a star and a colour.
        title: over the table.
        star: the mark.
    """
    texts = [[printable(cell) for cell in row] for row in rows]
    marked = [
        [f"{star} {row[0]}" if at in starred else row[0], *row[1:]] for at, row in enumerate(texts)
    ]
    shown = [at for at in range(len(heads)) if not marked or any(row[at] for row in marked)]
    columns = {at: [printable(heads[at]), *(row[at] for row in marked)] for at in shown}
    for head in droppable:
        if sum(_least(columns[at]) for at in shown) + _frame(shown) <= width:
            break
        shown = [at for at in shown if heads[at] != head]
    widths = _share([columns[at] for at in shown], width - _frame(shown))
    table = Table(title=title, title_justify="left")
    for at, room in zip(shown, widths, strict=True):
        table.add_column(Text(wrapped(columns[at][0], room)), no_wrap=True)
    for place, row in enumerate(marked):
        cells = (wrapped(row[at], room) for at, room in zip(shown, widths, strict=True))
        table.add_row(*map(Text, cells), style="bold green" if place in starred else None)
    return table


def wrapped(text: str, width: int) -> str:
    """Break a text into lines between words; of what is too long for a line, show both ends."""
    lines: list[str] = []
    for word in text.split():
        pieces = [word] if cell_len(word) <= width else _PARTS.findall(word)
        for place, piece in enumerate(pieces):
            gap = " " if place == 0 else ""
            fitting = _shortened(piece, width)
            if lines and cell_len(lines[-1]) + len(gap) + cell_len(fitting) <= width:
                lines[-1] += gap + fitting
            else:
                lines.append(fitting)
    return "\n".join(lines)


def _shortened(word: str, width: int) -> str:
    if cell_len(word) <= width:
        return word
    kept = max(width - 1, 2)
    head = kept // 2
    return f"{word[:head]}\u2026{word[len(word) - (kept - head) :]}"[:width]


def _frame(shown: Sequence[int]) -> int:
    return 3 * len(shown) + 1


def _least(column: Sequence[str]) -> int:
    """Return how wide a column has to be at least."""
    return max((_least_of(word) for cell in column for word in cell.split()), default=1)


def _least_of(word: str) -> int:
    if cell_len(word) <= _LONG:
        return cell_len(word)
    return min(max(map(cell_len, _PARTS.findall(word))), _LONG)


def _share(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Share out the room: what each column needs, and the rest to those that want more."""
    widths = [_least(column) for column in columns]
    wanted = [max((cell_len(cell) for cell in column), default=1) for column in columns]
    while sum(widths) > room and max(widths, default=0) > _SHORTEST:
        widths[widths.index(max(widths))] -= 1
    while sum(widths) < room:
        lacking = [at for at, width in enumerate(widths) if width < wanted[at]]
        if not lacking:
            break
        nearly = [at for at in lacking if wanted[at] <= _LONG]
        widths[min(nearly or lacking, key=lambda at: widths[at] / wanted[at])] += 1
    return widths
