"""Tables of a terminal: no word is broken that has room, and the table keeps to the width."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from espdl_quantize.cli.tables import fitted_table, wrapped

OP = "/blocks/blocks.0/layers/layers.0/layers.0.0/Conv"
HEADS = ("iter", "changed", "top1", "outcome", "slower on chip")
ROWS = [
    ("0", "kl", "73.5", "first score", "No"),
    ("1", "+tqt_optimization(lr=1e-05, steps=500, block_size=4)", "86.5", "new best", "No"),
    ("2", f"+int16 on {OP}", "91.75", "worse", f"Yes (int16 on 1 op: {OP})"),
]


def lines(width: int, rows: Sequence[tuple[str, ...]] = ROWS, **options: object) -> list[str]:
    table = fitted_table(HEADS, rows, width, droppable=("slower on chip",), starred={1})
    stream = io.StringIO()
    Console(file=stream, width=width, **options).print(table)  # type: ignore[arg-type]
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_words_stay_whole_at_any_usual_width(width: int) -> None:
    shown = lines(width)
    words = {word for line in shown for word in line.split()}
    assert {"+tqt_optimization(lr=1e-05,", "steps=500,", "block_size=4)", "score", "new"} <= words
    assert max(map(cell_len, shown)) <= width


def test_a_column_gives_way_before_words_do() -> None:
    assert "slower" in " ".join(lines(80))
    assert "slower" not in " ".join(lines(60))


def test_a_long_name_is_parted_at_its_separators() -> None:
    assert wrapped(OP, 20).splitlines() == [
        "/blocks/blocks.0/",
        "layers/layers.0/",
        "layers.0.0/Conv",
    ]
    assert wrapped("a" * 40, 11) == "aaaaa\u2026aaaaa"


def test_colour_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert any("\x1b[1;32m" in line for line in lines(80, force_terminal=True))
    assert not any("\x1b" in line for line in lines(80))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any("[1;32m" in line for line in lines(80, force_terminal=True))


@given(
    st.lists(st.tuples(*(st.text(max_size=60) for _ in HEADS)), max_size=5),
    st.integers(60, 160),
)
def test_any_text_fits(rows: list[tuple[str, ...]], width: int) -> None:
    assert all(cell_len(line) <= width for line in lines(width, rows))
