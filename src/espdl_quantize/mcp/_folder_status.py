"""Where the search in an output folder stands, at a glance."""

from __future__ import annotations

from pathlib import Path

from espdl_quantize.core import OutputFolderError
from espdl_quantize.mcp._models import FolderStatus
from espdl_quantize.report import certainty_lines, look

_WARNINGS = 20


def folder_status(outputs: Path) -> FolderStatus:
    """Read an output folder; nothing is written.

    Raises:
        OutputFolderError: it does not exist, or cannot be read.
    """
    if not outputs.is_dir():
        raise OutputFolderError(
            f"{outputs} does not exist", "start tune or run_iteration, which make it"
        )
    standing = look(outputs)
    history = standing.history
    best, report = history.best, outputs / "final_report.md"
    return FolderStatus(
        output_dir=str(outputs),
        iterations=len(history.iterations),
        failed=len(history.failed),
        phase=standing.decision.phase,
        metric=history.metric,
        direction=history.direction,
        best_iteration=None if best is None else best.id,
        best_value=None if best is None else best.value,
        float_value=None if best is None else history.float_value(best),
        gap_closed=history.gap_closed,
        no_gap=history.no_gap,
        certainty=certainty_lines(history),
        warnings=[warning.text for warning in history.warnings[:_WARNINGS]],
        report=str(report) if report.is_file() else None,
    )
