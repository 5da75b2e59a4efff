"""Finds the ops that a setting names and the model does not have, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from espdl_quantize.record import Evidence, History
from espdl_quantize.search import Violation
from espdl_quantize.setting import Setting, unknown_ops


def unknown_op_violations(
    setting: Setting, history: History, evidence: Mapping[int, Evidence]
) -> list[Violation]:
    """Compare the names with best's simplified_ops.json, else with the latest that is there.

    All iterations of a folder are of one model. Without any, nothing can be told.
    """
    rows = [history.best] if history.best is not None else []
    rows += reversed(history.iterations)
    known = next((row for row in rows if evidence[row.id].ops), None)
    if known is None:
        return []
    names = [op.name for op in evidence[known.id].ops]
    return [
        Violation(
            "unknown-op",
            known.id,
            f"{unknown.field} names {unknown.op!r}, which the model does not have",
            f"nearest: {', '.join(unknown.nearest)}"
            if unknown.nearest
            else f"{known.name}/simplified_ops.json has all names",
        )
        for unknown in unknown_ops(setting, names)
    ]
