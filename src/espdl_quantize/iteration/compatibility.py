"""Keeps an iteration out of an output folder whose iterations it cannot be ranked with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from espdl_quantize.contract import Conflict, Origin, common_origin
from espdl_quantize.core import Hint, Option, OutputFolderError
from espdl_quantize.record import iteration_folder, iteration_name, iteration_number, read_record


def check_compatibility(folder: Path, origin: Origin) -> None:
    """Refuse an iteration whose origin is not that of the scored ones beside it.

    A folder that is no ``iter_<N>`` is ranked with nothing, and may hold anything.

    Raises:
        OutputFolderError: chip, contract or model differ.
    """
    if iteration_number(folder) is None:
        return
    beside = dict(sorted(_scored_beside(folder)))
    common = common_origin(beside.values())
    conflicts = origin.conflicts(common)
    if not conflicts:
        return
    names = ", ".join(map(iteration_name, list(beside)[:3]))
    reason = "; ".join(map(_describe_conflict, conflicts))
    version = next((each.theirs for each in conflicts if each.is_of_versions), None)
    raise OutputFolderError(
        f"{folder.parent} holds iterations of another origin ({names}"
        f"{', ...' if len(beside) > 3 else ''}): {reason}; their scores do not compare",
        Hint(
            "give another ",
            Option.OUTPUT_DIR,
            f", such as {iteration_folder(Path(f'{folder.parent}_2'), 0)}, or ",
        )
        + of_folder(version if version is not None and common.esp_dl_version else None),
    )


def of_folder(version: str | None) -> Hint:
    """Return the hint to give what a folder was made with.

    Args:
        version: of ESP-DL, where that is what differs and the folder has one.
    """
    if version is None:
        return Hint("what that folder was made with")
    return Hint(Option.ESP_DL_VERSION.of(version), ", which that folder was made with")


def has_scored_beside(folder: Path) -> bool:
    """Tell whether ``folder`` is an iteration of an output folder that has scores."""
    return iteration_number(folder) is not None and any(_scored_beside(folder))


def _describe_conflict(conflict: Conflict) -> str:
    ours, theirs = conflict.shown()
    if conflict.is_of_chips:
        return f"target_chip is {theirs} there and {ours} here"
    if conflict.is_of_versions:
        return f"the version of ESP-DL that is named is {theirs} there and {ours} here"
    return (
        f"the contract or its model was edited since ({conflict.name} {theirs} there, {ours} here)"
    )


def _scored_beside(folder: Path) -> Iterator[tuple[int, Origin]]:
    for entry in folder.parent.iterdir():
        number = iteration_number(entry)
        if number is None or entry == folder:
            continue
        try:
            record = read_record(entry)
        except OutputFolderError:
            continue
        if record.failure is None and record.value is not None:
            yield number, record.origin
