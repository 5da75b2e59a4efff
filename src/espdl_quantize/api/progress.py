"""Progress as a bar: on stderr, or as a widget where a notebook has them."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from espdl_quantize.record import History, Iteration
from espdl_quantize.tuning import Observer, Plan, Status


class Bar(Observer):
    """Shows the running stage as a bar with an estimate, and a line for what stays.

    While an iteration runs, everything that is printed goes to its log: the bar writes to a
    duplicate of stderr, or to the notebook's own stream. Use it as a context manager.
    """

    def __init__(self) -> None:
        self._in_notebook = "ipykernel" in sys.modules
        self._stream: Any = None
        self._bar: Any = None

    def __enter__(self) -> Bar:
        with warnings.catch_warnings():
            # It says so where the widgets are not installed, and draws with characters.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

        if not self._in_notebook:
            self._stream = os.fdopen(os.dup(2), "w", encoding="utf-8")
        self._bar = tqdm(
            total=1.0,
            file=sys.stderr if self._stream is None else self._stream,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
            leave=False,
            dynamic_ncols=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._stream is not None:
            self._stream.close()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a stage while the block runs."""
        before = self._bar.desc
        self._bar.reset(total=1.0)
        self._bar.set_description_str(name)
        try:
            yield
        finally:
            self._bar.reset(total=1.0)
            self._bar.set_description_str(before)

    def update(self, done: float, total: float | None, detail: str = "") -> None:
        """Say how far the innermost stage is."""
        if total:
            self._bar.n = min(done / total, 1.0)
            self._bar.refresh()

    def planned(self, plan: Plan) -> None:
        """Say what is expected."""
        self._say("\n".join(["expected:", *plan.lines()]))

    def iteration_started(self, status: Status) -> None:
        """Say what begins."""
        self._say(f"iter_{status.proposal.setting.iteration_id}: {status.proposal.pattern}")

    def iteration_ended(self, iteration: Iteration, history: History) -> None:
        """Say what came of it."""
        if iteration.failure is not None:
            self._say(f"{iteration.name} failed: {iteration.failure}")
        elif iteration.value is not None:
            best = ", the best now" if history.best is iteration else ""
            self._say(f"{iteration.name}: {history.metric} {iteration.value:.6g}{best}")

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._say(f"note: {text}")

    def _say(self, text: str) -> None:
        safe = "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
        self._bar.write(safe, file=sys.stderr if self._stream is None else self._stream)
