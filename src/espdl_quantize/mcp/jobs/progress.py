"""Reads the lines that a running command writes of itself; they are shown and decide nothing."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from espdl_quantize.core import open_regular
from espdl_quantize.mcp._models import JobProgress
from espdl_quantize.mcp.jobs._read import plain

_LOGGER = logging.getLogger(__name__)
_KEPT = 12
_AT_ONCE = 16 << 20
"""Bytes that are read in one go; older lines than that are left out."""
_LONGEST = 2000
"""Characters of a text that are shown."""
_DEEPEST = 32
"""Stages within each other."""
_SEARCH = (
    "iteration",
    "number",
    "of",
    "phase",
    "what",
    "best_iteration",
    "best_value",
    "gap_closed",
    "no_gap",
)


class ProgressReader:
    """Follows one file, of which it reads no line twice.

    Args:
        path: what ``--progress-json`` names; it may appear later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._stages: list[str] = []
        self._fraction: float | None = None
        self._search: dict[str, Any] = {}
        self._text = ""
        self._left: tuple[float, float] | None = None
        self.recent: deque[str] = deque(maxlen=_KEPT)
        """What was written last."""

    def read(self) -> JobProgress | None:
        """Return how far it is; None where nothing was written yet."""
        for event in self._new():
            try:
                self._take(event)
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                _LOGGER.info("%s has a line that says nothing: %s", self._path, ascii(error))
        if not (self._stages or self._search or self.recent):
            return None
        stage = " > ".join(self._stages) or None
        parts = [self._text] if self._text else []
        if stage:
            done = "" if self._fraction is None else f" {self._fraction:.0%}"
            parts.append(stage + done)
        left = None
        if self._left is not None:
            seconds, when = self._left
            left = max(seconds - (time.time() - when), 0.0)
        return JobProgress(
            text=" | ".join(parts) or "begun",
            stage=stage,
            fraction=self._fraction,
            seconds_left=left,
            **self._search,
        )

    def _new(self) -> list[dict[str, Any]]:
        try:
            with open_regular(self._path, follow=False) as file:
                size = file.seek(0, os.SEEK_END)
                self._offset = max(self._offset, size - _AT_ONCE)
                file.seek(self._offset)
                content = file.read(_AT_ONCE)
        except OSError:
            return []
        # The last line may be half written.
        whole = content[: content.rfind(b"\n") + 1]
        # A line as long as all that is read at once says nothing.
        self._offset += len(whole) or (len(content) if len(content) == _AT_ONCE else 0)
        events = []
        for line in whole.splitlines():
            try:
                event = plain(json.loads(line))
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def _take(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if name == "stage":
            self._fraction = None
            depth = min(max(int(event.get("depth", 0)), 0), _DEEPEST)
            begun = event.get("status") == "begun"
            self._stages[depth:] = [_short(event.get("stage"))] if begun else []
        elif name == "at":
            fraction = event.get("fraction")
            self._fraction = None if fraction is None else _within(fraction, 0.0, 1.0)
        elif name == "plan":
            self.recent.append(_short("; ".join(str(line).strip() for line in event["lines"])))
        elif name == "notice":
            self.recent.append(_short(f"note: {event.get('text')}"))
        elif name == "iteration_started":
            self._search = _search({key: event.get(key) for key in _SEARCH})
            self._text = _short(f"iter_{event.get('iteration')}: {event.get('text')}")
            self.recent.append(self._text)
            left = event.get("seconds_left")
            self._left = None
            if left is not None:
                when = _within(event.get("time", 0), 0.0, math.inf)
                self._left = (_within(left, 0.0, math.inf), when)
        elif name == "iteration_ended":
            self.recent.append(_short(_ended(event)))
            if event.get("is_best"):
                best = {"best_iteration": event.get("iteration"), "best_value": event.get("value")}
                self._search = _search({**self._search, **best})


def _search(values: dict[str, Any]) -> dict[str, Any]:
    """Check what is said of the search.

    Raises:
        ValueError: a value is not of its type.
    """
    values = {
        key: _short(value) if isinstance(value, str) else value for key, value in values.items()
    }
    checked = JobProgress.model_validate({"text": "", **values}, strict=True)
    return checked.model_dump(include=set(values))


def _within(value: Any, low: float, high: float) -> float:
    number = float(value)
    if not low <= number <= high or math.isnan(number):
        raise ValueError(f"{number} is not from {low} to {high}")
    return number


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _ended(event: dict[str, Any]) -> str:
    text = f"iter_{event.get('iteration')}"
    if event.get("failure") is not None:
        return f"{text} failed: {event['failure']}"
    text += f": {event['value']:.6g}" if event.get("value") is not None else ""
    delta = event.get("delta")
    if delta is None:
        return text
    text += f" ({delta:+.4g} against the best before: {event.get('outcome')})"
    return text + (", the best now" if event.get("is_best") else "")
