"""Progress on the terminal: one line per stage, with the time left where it can be told."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_WORTH_A_LINE = 1.0
"""Seconds; stages that took less leave no line behind."""


@dataclass
class _Stage:
    name: str
    depth: int
    started: float
    done: float = 0.0
    total: float | None = None
    detail: str = ""

    def fraction(self) -> float | None:
        """How much is done, with esp-ppq's own bars counted inside the current step."""
        inner = _innermost_bar()
        if self.total:
            return min((self.done + (inner or 0.0)) / self.total, 1.0)
        return inner


class TerminalProgress:
    """Shows the running stages on stderr; finished ones stay as a line where they took a while.

    It writes to a duplicate of the terminal's descriptor, so that it is seen while everything that
    is printed goes to a log. Where stderr is no terminal, only the finished stages are printed.
    """

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(2), "w", encoding="utf-8")
        self._console = Console(file=self._stream)
        self._stages: list[_Stage] = []
        self._live: Live | None = None
        self.header = ""
        """A line above the stages."""

    def __enter__(self) -> TerminalProgress:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=5,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        self._stream.close()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a stage while the block runs."""
        stage = _Stage(name, len(self._stages), time.monotonic())
        self._stages.append(stage)
        ended = ""
        try:
            yield
        except BaseException as error:
            ended = (
                "interrupted after " if isinstance(error, KeyboardInterrupt) else "failed after "
            )
            raise
        finally:
            self._stages.remove(stage)
            elapsed = time.monotonic() - stage.started
            if elapsed >= _WORTH_A_LINE:
                self._console.print(f"{'  ' * stage.depth}{stage.name}: {ended}{elapsed:.1f} s")

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say how far the innermost stage is."""
        if self._stages:
            stage = self._stages[-1]
            stage.done, stage.total, stage.detail = done, total, detail

    def say(self, text: str) -> None:
        """Leave a line that stays."""
        self._console.print(Text(text))

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 1))
        for stage in list(self._stages):
            elapsed = time.monotonic() - stage.started
            innermost = stage is self._stages[-1]
            fraction = stage.fraction() if innermost else None
            text = f"{elapsed:.0f} s"
            if fraction is not None and fraction > 0.02:
                text += f", about {elapsed * (1 - fraction) / fraction:.0f} s left"
            bar: ProgressBar | Text = Text()
            if innermost:
                total = None if fraction is None else 1.0
                bar = ProgressBar(total, fraction or 0.0, width=30, pulse=fraction is None)
            table.add_row("  " * stage.depth + stage.name, bar, text, stage.detail)
        return Group(*([Text(self.header, "bold")] if self.header else []), table)


def _innermost_bar() -> float | None:
    """Return how far the newest of esp-ppq's tqdm bars is; they themselves go to the log."""
    from tqdm import tqdm

    bars = [bar for bar in list(getattr(tqdm, "_instances", ())) if bar.total]
    return min(bars[-1].n / bars[-1].total, 1.0) if bars else None
