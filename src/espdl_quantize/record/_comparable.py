"""Tells the iterations that can be ranked together from those that cannot."""

from __future__ import annotations

from espdl_quantize.contract import Conflict, common_origin
from espdl_quantize.record._history import HistoryWarning
from espdl_quantize.record._iteration import Iteration


def split_by_origin(
    rows: list[Iteration],
) -> tuple[list[Iteration], list[Iteration], list[HistoryWarning]]:
    """Separate the iterations of another chip, contract or model than the first scored one's.

    Args:
        rows: ascending by id.

    Returns:
        Those that are ranked, those that are not, and a warning for each of the latter.
    """
    scored = [row for row in rows if row.value is not None]
    reference = common_origin(row.origin for row in scored)
    ranked, excluded, warnings = [], [], []
    for row in rows:
        conflicts = row.origin.conflicts(reference)
        if not conflicts:
            ranked.append(row)
            continue
        excluded.append(row)
        told = "; ".join(_tell(conflict, scored) for conflict in conflicts)
        warnings.append(
            HistoryWarning(
                "other-origin",
                f"{row.name} is excluded from the ranking and the search: {told}",
                row.id,
            )
        )
    return ranked, excluded, warnings


def reference_key(rows: list[Iteration]) -> str | None:
    """Return the key that the ranked iterations share, None where they are older than keys."""
    return common_origin(row.origin for row in rows if row.value is not None).float_reference_key


def _tell(conflict: Conflict, scored: list[Iteration]) -> str:
    name, _, expected = conflict
    first = next(row for row in scored if getattr(row.origin, name) == expected)
    found, wanted = conflict.shown()
    if conflict.is_of_chips:
        return f"its target_chip is {found}, that of {first.name} is {wanted}"
    return (
        "the contract or its model was edited in between "
        f"({name} {found}, that of {first.name} is {wanted})"
    )
