"""Keeps a search out of folders that belong to another one."""

from __future__ import annotations

from collections.abc import Iterator

from espdl_quantize.core import Hint, Option, OutputFolderError
from espdl_quantize.record import History
from espdl_quantize.tuning._backend import BackendFacts


def check_folder(history: History, facts: BackendFacts) -> list[str]:
    """Compare what is in the folder with what is about to be put there.

    Returns:
        Differences that may be meant, and iterations that are left out, in words.

    Raises:
        OutputFolderError: the iterations are of another metric, model or chip.
    """
    notices = [warning.text for warning in history.warnings if warning.kind == "other-origin"]
    last = history.scored[-1] if history.scored else history.latest
    if last is None:
        return notices
    differences = [
        f"{name} {str(theirs)!r}, this contract has {str(ours)!r}"
        for name, theirs, ours in _pairs(history, facts)
        if theirs is not None and ours is not None and theirs != ours
    ]
    if differences:
        raise OutputFolderError(
            f"{history.folder} holds the iterations of another contract: {last.name} has "
            + "; ".join(differences),
            Hint(
                "give another ",
                Option.OUTPUT_DIR,
                ", or the contract that the folder was made with",
            ),
        )
    ours = facts.contract_key
    # Failed iterations bind nobody: the contract may have been what was to be fixed.
    if history.scored and ours and last.contract_key and last.contract_key != ours:
        raise OutputFolderError(
            f"the contract was edited since {last.name} in {history.folder} was run; the scores do "
            "not compare",
            Hint(
                "give another ",
                Option.OUTPUT_DIR,
                ", or the contract that the folder was made with",
            ),
        )
    if last.contract_path and facts.contract_path and last.contract_path != facts.contract_path:
        notices.append(
            f"the iterations in {history.folder} were made with {last.contract_path}; metric, "
            "model and chip are the same, so the search goes on with them"
        )
    return notices


def _pairs(history: History, facts: BackendFacts) -> Iterator[tuple[str, str | None, str | None]]:
    last = history.scored[-1] if history.scored else history.latest
    if last is None:
        return
    yield "primary_metric", history.metric, facts.metric
    yield "metric_direction", last.direction, facts.direction
    yield "model", last.model_name, facts.model_name
    yield "target chip", last.target_chip, facts.target_chip
