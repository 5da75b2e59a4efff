"""Keeps a search out of folders that belong to another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from espdl_quantize.core import Hint, Option, OutputFolderError
from espdl_quantize.iteration.compatibility import of_folder
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
    check_chip(history, facts.target_chip)
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
        if last.esp_dl_version != facts.esp_dl_version:
            there, here = last.esp_dl_version or "none", facts.esp_dl_version or "none"
            raise OutputFolderError(
                f"{history.folder} holds iterations for another version of ESP-DL: {last.name} has "
                f"{there}, this run names {here}; their scores do not compare",
                Hint("give another ", Option.OUTPUT_DIR, ", or ") + of_folder(last.esp_dl_version),
            )
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


def check_chip(history: History, chip: str | None, *, but: Path | None = None) -> None:
    """Refuse a chip other than that of the folder's iterations.

    Args:
        history: of the output folder.
        chip: that would be quantized for; None where nobody says.
        but: the folder of an iteration that is about to be replaced.

    Raises:
        OutputFolderError: the iterations are of another chip.
    """
    others = [each for each in history.iterations if each.folder != but]
    scored = [each for each in history.scored if each.folder != but]
    last = scored[-1] if scored else others[-1] if others else None
    if last is None or not last.target_chip or not chip or last.target_chip == chip:
        return
    raise OutputFolderError(
        f"{history.folder} holds the iterations of another chip: {last.name} has target chip "
        f"{str(last.target_chip)!r}, this run has {str(chip)!r}; their scores do not "
        "compare",
        Hint("give another ", Option.OUTPUT_DIR, ", or ")
        + Hint(Option.TARGET.of(last.target_chip), " for the folder's chip"),
    )


def _pairs(history: History, facts: BackendFacts) -> Iterator[tuple[str, str | None, str | None]]:
    last = history.scored[-1] if history.scored else history.latest
    if last is None:
        return
    yield "primary_metric", history.metric, facts.metric
    yield "metric_direction", last.direction, facts.direction
    yield "model", last.model_name, facts.model_name


def default_outputs(target: str | None) -> Path:
    """Return the output folder where none is named; a chip of the caller's has one of its own."""
    return Path("outputs" if target is None else f"outputs-{target.lower()}")
