"""Shows the stages of a worker process on a progress of this one."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import NamedTuple

from espdl_quantize.core import Json, Progress


class _Open(NamedTuple):
    name: str
    shown: AbstractContextManager[None]
    since: float


class Stages:
    """What was heard of an iteration's stages.

    Attributes:
        last: the outermost stage that was heard of last.
        seconds: what the outermost stages took.
        draft: the index as it last stood.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: list[_Open] = []
        self.last = "start"
        self.seconds: dict[str, float] = {}
        self.draft: Json = {}

    @property
    def place(self) -> str:
        """Return where in its stages the iteration is, such as "quantize: tqt"."""
        return ": ".join(one.name for one in self._open) or self.last

    @property
    def inner(self) -> str:
        """Return the innermost open stage; empty where there is none within the outermost."""
        return self._open[-1].name if len(self._open) > 1 else ""

    def hear(self, message: Json) -> None:
        """Take note of one message; those of other kinds are left alone."""
        event = message.get("event")
        if event == "draft":
            self.draft = message["index"]
        elif event == "stage":
            self._enter(str(message["name"]))
        elif event == "update":
            self._progress.update(message["done"], message["total"], message["detail"])
        elif event == "stage ended":
            self._leave(None)
        elif event == "stage failed":
            self._leave(RuntimeError())

    def close(self, reason: BaseException) -> None:
        """End all stages: nothing more will be heard of them."""
        while self._open:
            self._leave(reason)

    def _enter(self, name: str) -> None:
        if not self._open:
            self.last = name
        shown = self._progress.stage(name)
        shown.__enter__()
        self._open.append(_Open(name, shown, time.monotonic()))

    def _leave(self, reason: BaseException | None) -> None:
        if not self._open:
            return
        name, shown, since = self._open.pop()
        if not self._open:
            self.seconds[name] = round(time.monotonic() - since, 3)
        shown.__exit__(None if reason is None else type(reason), reason, None)
