"""Progress, on the terminal for people and as JSON lines for programs."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from espdl_quantize.cli.terminal import printable
from espdl_quantize.core import NoProgress, OutputFolderError, Progress, to_jsonable

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress_bar import ProgressBar

_WORTH_A_LINE = 1.0
"""Seconds; stages that took less leave no line behind."""
_TICK = 1.0
"""Seconds between two lines on how far a stage is."""


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
        # Not for a help.
        from rich.live import Live

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

    def say(self, text: str, style: str = "") -> None:
        """Leave a line that stays."""
        self._console.print(Text(printable(text), style))

    def _render(self) -> Group:
        from rich.progress_bar import ProgressBar

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


class ProgressLines:
    """Appends a JSON object per line to a file: a stage begins, is so far, ends; or what happens.

    Every line has ``time`` (seconds since the epoch) and ``event``. ``stage`` lines carry the
    stage, its depth and its status; ``at`` lines, at most one a second, the fraction that is done
    and the seconds that the stage has taken. Whatever else happens is written by :meth:`event`.

    Args:
        path: the file; what it holds is replaced.

    Raises:
        OutputFolderError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise OutputFolderError(
                f"{path} cannot be written: {error.strerror or error}",
                "give --progress-json a file in a folder that you can write to",
            ) from error
        self._stages: list[_Stage] = []
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._lock = threading.Lock()

    def __enter__(self) -> ProgressLines:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        # A full disk must not hide what came of the work.
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Write that a stage begins, and how it ends."""
        stage = _Stage(name, len(self._stages), time.monotonic())
        self._stages.append(stage)
        self.event("stage", stage=name, depth=stage.depth, status="begun")
        status = "done"
        try:
            yield
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        finally:
            self._stages.remove(stage)
            seconds = round(time.monotonic() - stage.started, 3)
            self.event("stage", stage=name, depth=stage.depth, status=status, seconds=seconds)

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say how far the innermost stage is; written with the next tick."""
        if self._stages:
            stage = self._stages[-1]
            stage.done, stage.total, stage.detail = done, total, detail

    def event(self, name: str, **data: Any) -> None:
        """Append a line."""
        line = json.dumps(
            to_jsonable({"time": round(time.time(), 3), "event": name, **data}),
            ensure_ascii=False,
        )
        with self._lock, contextlib.suppress(OSError):
            self._file.write(line + "\n")

    def _tick(self) -> None:
        written: tuple[str, float] | None = None
        while not self._ended.wait(_TICK):
            with contextlib.suppress(IndexError):
                stage = self._stages[-1]
                fraction = stage.fraction()
                if fraction is None or written == (stage.name, fraction):
                    continue
                written = (stage.name, fraction)
                seconds = round(time.monotonic() - stage.started, 3)
                self.event("at", stage=stage.name, fraction=round(fraction, 4), seconds=seconds)


def shown(
    lines: Path | None, *, as_json: bool
) -> contextlib.AbstractContextManager[TerminalProgress | ProgressLines | NoProgress]:
    """Return where progress goes: to a file, to nobody, or to the terminal."""
    if lines is not None:
        return ProgressLines(lines)
    return contextlib.nullcontext(NoProgress()) if as_json else TerminalProgress()


def say_of(progress: Progress) -> Callable[[str], None]:
    """Return what leaves a line that stays, where the progress has such lines."""
    say: Callable[[str], None] = getattr(progress, "say", lambda _: None)
    return say


def _innermost_bar() -> float | None:
    """Return how far the newest of esp-ppq's tqdm bars is; they themselves go to the log."""
    from tqdm import tqdm

    bars = [bar for bar in list(getattr(tqdm, "_instances", ())) if bar.total]
    return min(bars[-1].n / bars[-1].total, 1.0) if bars else None
