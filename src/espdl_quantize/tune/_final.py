"""The final score: of best, of the baseline and of the float model, on data for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from espdl_quantize.core import EspdlQuantizeError, OutputFolderError, Progress
from espdl_quantize.record import History, Iteration
from espdl_quantize.record.files import FINAL
from espdl_quantize.tune._backend import AsideBackend, Backend


def take_final(
    backend: Backend,
    history: History,
    progress: Progress,
    notice: Callable[[str], None],
    again: bool = False,
) -> int:
    """Score best and the baseline by the contract's function of the final score.

    Each is quantized once more with its own setting, seed and engine, and the exported model is
    held against the iteration's: equal to the last byte, it is the same graph. What was scored
    before is not scored again. A failure is told, and is no reason to lose the search.

    Args:
        backend: runs beside the search.
        history: all iterations.
        progress: told of every stage.
        notice: told what the user should know.
        again: score what was scored, too.

    Returns:
        How many were scored.
    """
    used = backend.facts.final_by
    if used is None or history.best is None or not isinstance(backend, AsideBackend):
        return 0
    count = 0
    for row in wanted(history):
        if not again and row.id in history.finals:
            continue
        notice(f"final score of {row.name} by {used}()")
        try:
            with progress.stage(f"final score of {row.name}"):
                _score(backend, row, history.folder, progress)
            count += 1
        except EspdlQuantizeError as error:
            notice(f"{row.name} has no final score: {error}")
    return count


def wanted(history: History) -> list[Iteration]:
    """Return the iterations that a final score is taken of."""
    rows = [history.best, history.baseline]
    found = {row.id: row for row in rows if row is not None and row.setting is not None}
    return list(found.values())


def _score(backend: AsideBackend, row: Iteration, outputs: Path, progress: Progress) -> None:
    assert row.setting is not None
    folder = outputs.resolve() / FINAL / row.name
    folder.parent.mkdir(exist_ok=True)
    changed = {"home": str(outputs.resolve()), "final": True}
    if row.seed is not None:
        changed["seed"] = row.seed
    if row.engine in ("fast", "reference"):
        changed["engine"] = row.engine
    record = backend.run_aside(row.setting, folder, progress, **changed)
    if record.float_reference_key != row.float_reference_key:
        raise OutputFolderError(
            f"the contract or its model was edited since {row.name} was run: the final score is of "
            "another one",
            "give the contract that the search was run with, or search again in a new folder",
        )
