"""Reads the lines that a running command writes of itself."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

from espdl_quantize.mcp._models import JobProgress

_KEPT = 12
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
        """What was told last."""

    def read(self) -> JobProgress | None:
        """Return how far it is; None where nothing was told yet."""
        for event in self._new():
            self._take(event)
        if not (self._stages or self._search or self.recent):
            return None
        stage = " > ".join(self._stages) or None
        parts = [self._text] if self._text else []
        if stage:
            done = "" if self._fraction is None else f" {self._fraction:.0%}"
            parts.append(stage + done)
        left = None
        if self._left is not None:
            told, when = self._left
            left = max(told - (time.time() - when), 0.0)
        return JobProgress(
            text=" | ".join(parts) or "begun",
            stage=stage,
            fraction=self._fraction,
            seconds_left=left,
            **self._search,
        )

    def _new(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        # The last line may be half written.
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = []
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                found.append(event)
        return found

    def _take(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if name == "stage":
            self._fraction = None
            depth = int(event.get("depth", 0))
            begun = event.get("status") == "begun"
            self._stages[depth:] = [str(event.get("stage"))] if begun else []
        elif name == "at":
            self._fraction = event.get("fraction")
        elif name == "plan":
            self.recent.append("; ".join(str(line).strip() for line in event.get("lines", [])))
        elif name == "notice":
            self.recent.append(f"note: {event.get('text')}")
        elif name == "iteration_started":
            self._search = {key: event.get(key) for key in _SEARCH}
            self._text = f"iter_{event.get('iteration')}: {event.get('text')}"
            left = event.get("seconds_left")
            self._left = None if left is None else (float(left), float(event.get("time", 0)))
            self.recent.append(self._text)
        elif name == "iteration_ended":
            self.recent.append(_ended(event))
            if event.get("is_best"):
                self._search["best_iteration"] = event.get("iteration")
                self._search["best_value"] = event.get("value")


def _ended(event: dict[str, Any]) -> str:
    told = f"iter_{event.get('iteration')}"
    if event.get("failure") is not None:
        return f"{told} failed: {event['failure']}"
    told += f": {event['value']:.6g}" if event.get("value") is not None else ""
    delta = event.get("delta")
    if delta is None:
        return told
    told += f" ({delta:+.4g} against the best before: {event.get('outcome')})"
    return told + (", the best now" if event.get("is_best") else "")
