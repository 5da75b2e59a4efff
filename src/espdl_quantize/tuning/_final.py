"""The final score: of best, of the baseline and of the float model, on data for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from espdl_quantize.core import Engine, EspdlQuantizeError, OutputFolderError, Progress
from espdl_quantize.record import History, Iteration
from espdl_quantize.record.files import FINAL
from espdl_quantize.tuning._backend import AuxiliaryBackend, Backend


def take_final(
    backend: Backend,
    history: History,
    progress: Progress,
    notice: Callable[[str], None],
    *,
    again: bool = False,
) -> int:
    """Score best and the baseline by the contract's function of the final score.

    Each is quantized once more with its own setting, seed and engine, and the exported model is
    held against the iteration's: equal to the last byte, it is the same graph. What was scored
    before is not scored again. A failure is noticed, and is no reason to lose the search.

    Args:
        backend: runs beside the search.
        history: all iterations.
        progress: receives every stage.
        notice: receives what the user should know.
        again: score what was scored, too.

    Returns:
        How many were scored.
    """
    used = backend.facts.final_by
    if used is None or history.best is None or not isinstance(backend, AuxiliaryBackend):
        return 0
    count = 0
    for iteration in wanted(history):
        if not again and iteration.id in history.finals:
            continue
        notice(f"final score of {iteration.name} by {used}()")
        try:
            with progress.stage(f"final score of {iteration.name}"):
                _score(backend, iteration, history.folder, progress)
            count += 1
        except EspdlQuantizeError as error:
            notice(f"{iteration.name} has no final score: {error}")
    return count


def wanted(history: History) -> list[Iteration]:
    """Return the iterations that a final score is taken of."""
    both = (history.best, history.baseline)
    by_id = {item.id: item for item in both if item is not None and item.setting is not None}
    return list(by_id.values())


def _score(
    backend: AuxiliaryBackend, iteration: Iteration, outputs: Path, progress: Progress
) -> None:
    assert iteration.setting is not None
    folder = outputs.resolve() / FINAL / iteration.name
    folder.parent.mkdir(exist_ok=True)
    changed = {"home": str(outputs.resolve()), "final": True}
    if iteration.seed is not None:
        changed["seed"] = iteration.seed
    if iteration.engine in tuple(Engine):
        changed["engine"] = iteration.engine
    record = backend.run_auxiliary(iteration.setting, folder, progress, **changed)
    if record.float_reference_key != iteration.float_reference_key:
        raise OutputFolderError(
            f"the contract or its model was edited since {iteration.name} was run: the final score "
            "is of another one",
            "give the contract that the search was run with, or search again in a new folder",
        )
