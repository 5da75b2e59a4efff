"""Reads the final scores that lie beside the iterations."""

from __future__ import annotations

import hashlib
from pathlib import Path

from espdl_quantize.record._final import FinalScore
from espdl_quantize.record._iteration import Iteration
from espdl_quantize.record._read_iteration import read_iteration

FINAL = "final"


def read_finals(outputs: Path, rows: list[Iteration]) -> dict[int, FinalScore]:
    """Read the final scores of the ranked iterations.

    One is left out that failed, or is of another contract or of another setting than the iteration
    has now.
    """
    found = {}
    for row in rows:
        folder = outputs / FINAL / row.name
        if row.value is None or not folder.is_dir():
            continue
        score, _ = read_iteration(folder, row.id)
        if score is None or score.value is None or score.origin.conflicts(row.origin):
            continue
        if _plain(score) != _plain(row):
            continue
        digest = _digest(row.folder / "model.espdl")
        same = (
            None if digest is None or score.model_sha256 is None else (digest == score.model_sha256)
        )
        found[row.id] = FinalScore(score, same)
    return found


def _plain(row: Iteration) -> object:
    """Return what was asked for, less what only names it."""
    if row.setting is None:
        return None
    return row.setting.model_dump(exclude={"iteration_id", "rationale"}), row.seed


def _digest(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None
